"""FedGKT; see method.py."""

from kdjax.algorithms.fedgkt.hyper import Hyper
from kdjax.algorithms.fedgkt.method import METHOD

__all__ = ["METHOD", "Hyper"]
