"""FedMD; see method.py."""

from kdjax.algorithms.fedmd.hyper import Hyper
from kdjax.algorithms.fedmd.method import METHOD

__all__ = ["METHOD", "Hyper"]
