"""Pairwise transfer models; see method.py."""

from kdjax.algorithms.pairwise.method import make

__all__ = ["make"]
