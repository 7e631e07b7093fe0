"""Asynchronous edge learning by cloned distillation; see method.py."""

from kdjax.algorithms.async_edge.hyper import Hyper
from kdjax.algorithms.async_edge.method import METHOD

__all__ = ["METHOD", "Hyper"]
