"""FedGKT; see method.py."""

from kdjax.algorithms.fedgkt.method import METHOD, Hyper

__all__ = ["METHOD", "Hyper"]
