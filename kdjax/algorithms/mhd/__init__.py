"""Multi-Headed Distillation; see method.py."""

from kdjax.algorithms.mhd.method import heads, make

__all__ = ["heads", "make"]
