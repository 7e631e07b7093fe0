"""Many runs from one command: a grid of settings and seeds."""

from kdjax.sweep.cli import sweep_cli

__all__ = ["sweep_cli"]
