"""Benchmarks: `python -m benchmarks SUITE` times kdjax beside others, each in its own process."""
