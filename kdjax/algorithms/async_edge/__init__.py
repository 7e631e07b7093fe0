"""Asynchronous edge learning by cloned distillation; see method.py."""

from kdjax.algorithms.async_edge.method import make, stack

__all__ = ["make", "stack"]
