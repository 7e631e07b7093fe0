"""The device memory that a program needs, by its compiler."""

import math
import re
from typing import Any, NamedTuple

import jax

_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
# The messages of a TPU's compiler for a program that does not fit.
_REFUSED = (
  re.compile(r"\(([\d.]+)([KMGT])\) exceeds available"),
  re.compile(r"Used ([\d.]+)([KMGT]) of [\d.]+[KMGT] \w*hbm"),
)


class Compiled(NamedTuple):
  """A compiled program, or the need of a program that was refused."""

  program: jax.stages.Compiled | None  # None: the compiler refused it, since it does not fit
  arguments: float  # bytes per device of the arguments
  temporaries: float  # bytes of temporaries; for a refused program, all bytes that it would need
  rest: float  # bytes of its code, and of results that do not reuse their arguments' memory

  @property
  def need(self) -> float:
    """Bytes per device."""
    return self.arguments + self.temporaries + self.rest


def compile(lowered: jax.stages.Lowered, options: dict[str, Any] | None = None) -> Compiled:
  """Compiles a program for the devices it was lowered for.

  Raises:
    JaxRuntimeError: for any error of its compiler other than a lack of memory.
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
  """Whether a device, or a compiler that tries kernels on it, has run out of memory."""
  return "RESOURCE_EXHAUSTED" in str(error)


def refused(message: str, error: Exception) -> float:
  """Bytes that a refused program would need, from its compiler's message.

  It raises the error if that is not about memory. A GPU's compiler that times algorithms names only
  an allocation that failed; the result is then inf.
  """
  for pattern in _REFUSED:
    if found := pattern.search(message):
      return float(found.group(1)) * _UNITS[found.group(2)]
  if exhausted(error) and re.search(r"(trying|ailed) to allocate", message):
    return math.inf
  raise error
