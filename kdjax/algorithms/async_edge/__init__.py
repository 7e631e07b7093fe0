"""Asynchronous edge learning by cloned distillation; see method.py."""

from kdjax.algorithms.async_edge.method import METHOD, Hyper

__all__ = ["METHOD", "Hyper"]
