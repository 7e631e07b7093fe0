"""Pairwise transfer models; see method.py."""

from kdjax.algorithms.pairwise.controls import RANDOM, ZEROED
from kdjax.algorithms.pairwise.hyper import Hyper
from kdjax.algorithms.pairwise.method import METHOD

__all__ = ["METHOD", "RANDOM", "ZEROED", "Hyper"]
