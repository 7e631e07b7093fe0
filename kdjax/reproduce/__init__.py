"""Papers' tables, figures and claims: declared, trained, judged by rule."""

from kdjax.reproduce.cli import reproduce_cli

__all__ = ["reproduce_cli"]
