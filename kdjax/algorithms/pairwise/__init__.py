"""Pairwise transfer models; see method.py."""

from kdjax.algorithms.pairwise.method import METHOD, Hyper

__all__ = ["METHOD", "Hyper"]
