"""A boundary that XLA:CPU's fusion respects.

XLA:CPU fuses whatever is computed from an array into each of its readers, so that every reader
computes it again; optimisation barriers are gone by then. It does not look into calls.
"""

from collections.abc import Callable

import jax
from jax.experimental.xla_metadata import set_xla_metadata

from kdjax.core import machine


def noinline(fn: Callable) -> Callable:
  """`fn`, on CPU as a call that is not inlined: its arguments and results are arrays in memory.

  Args:
    fn: a pure function of pytrees of arrays, to be used while a program is traced.
  """
  if machine.backend() != "cpu":
    return fn

  def call(*args):
    with set_xla_metadata(inlineable="false"):
      return jax.jit(fn)(*args)

  return call
