"""A boundary that XLA:CPU's fusion respects.

XLA:CPU fuses the computation of an array into each of its readers, so every reader repeats it.
Optimisation barriers are removed before fusion, but fusion does not cross calls.
"""

from collections.abc import Callable

import jax
from jax.experimental.xla_metadata import set_xla_metadata

from kdjax.core import machine


def noinline(fn: Callable) -> Callable:
  """`fn` as a call that is not inlined on CPU: its arguments and results are arrays in memory.

  Args:
    fn: a pure function of pytrees of arrays, called while a program is traced.
  """
  if machine.backend() != "cpu":
    return fn

  def call(*args):
    with set_xla_metadata(inlineable="false"):
      return jax.jit(fn)(*args)

  return call
