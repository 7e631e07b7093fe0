"""FedGKT; see method.py."""

from kdjax.algorithms.fedgkt.method import make

__all__ = ["make"]
