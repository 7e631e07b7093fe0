"""What a program needs of a device's memory, as its compiler says."""

import math
import re
from typing import Any, NamedTuple

import jax

_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
# How a TPU's compiler says that a program does not fit.
_REFUSED = (
  re.compile(r"\(([\d.]+)([KMGT])\) exceeds available"),
  re.compile(r"Used ([\d.]+)([KMGT]) of [\d.]+[KMGT] \w*hbm"),
)


class Compiled(NamedTuple):
  """A compiled program, or how it was refused."""

  program: jax.stages.Compiled | None  # None: the compiler refuses what does not fit
  arguments: float  # bytes a device: what goes in
  temporaries: float  # and what it needs while it runs; of a refused one, all that it would need
  rest: float  # its code, and results that do not take their arguments' place

  @property
  def need(self) -> float:
    """Bytes a device."""
    return self.arguments + self.temporaries + self.rest


def compile(lowered: jax.stages.Lowered, options: dict[str, Any] | None = None) -> Compiled:
  """Compiles a program for the devices it was lowered for.

  Raises:
    JaxRuntimeError: for whatever its compiler cannot do, but for want of memory.
  """
  try:
    program = lowered.compile(compiler_options=options)
  except jax.errors.JaxRuntimeError as error:
    return Compiled(None, 0.0, refused(str(error), error), 0.0)
  memory = program.memory_analysis()
  rest = memory.output_size_in_bytes - memory.alias_size_in_bytes  # type: ignore[union-attr]
  rest += memory.generated_code_size_in_bytes  # type: ignore[union-attr]
  arguments, temporaries = memory.argument_size_in_bytes, memory.temp_size_in_bytes  # type: ignore[union-attr]
  return Compiled(program, arguments, temporaries, max(rest, 0))


def exhausted(error: Exception) -> bool:
  """Whether a device, or a compiler that tries its kernels there, has run out of memory."""
  return "RESOURCE_EXHAUSTED" in str(error)


def refused(said: str, error: Exception) -> float:
  """Bytes that a refused program would need, from its compiler's message; else raises the error.

  A GPU's compiler, where it times algorithms, names only what it could not get: inf.
  """
  for pattern in _REFUSED:
    if found := pattern.search(said):
      return float(found.group(1)) * _UNITS[found.group(2)]
  if exhausted(error) and re.search(r"(trying|ailed) to allocate", said):
    return math.inf
  raise error
