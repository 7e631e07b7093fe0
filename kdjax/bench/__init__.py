"""Benchmarks: `python -m kdjax.bench SUITE` times kdjax beside others, each in its own process."""
