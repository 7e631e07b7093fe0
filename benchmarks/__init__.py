"""Benchmarks: `python -m benchmarks SUITE` times kdjax and others, each in its own process."""
