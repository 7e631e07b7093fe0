"""Multi-Headed Distillation; see method.py."""

from kdjax.algorithms.mhd.hyper import Hyper
from kdjax.algorithms.mhd.method import METHOD

__all__ = ["METHOD", "Hyper"]
