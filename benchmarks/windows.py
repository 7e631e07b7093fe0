"""Times a TPU's compiler on one convolution with gradients: `python -m benchmarks.windows`.

It compares trying all windows with taking the first one, as plans do (`hardware/target.py`): the
processor time, the bytes of the kernels' code, and whether the programs are otherwise the same.
"""

import re
import resource

import jax
import jax.numpy as jnp

from kdjax.hardware import target

SHAPES = ((64, 14, 256), (64, 56, 64))  # images, their height and width, channels


def compiled(chip, options, images, size, channels):
  """(seconds of processor time, bytes of code, the program's text without the compiler's notes)."""

  def loss(x, kernel):
    layout = ("NHWC", "HWIO", "NHWC")
    y = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=layout)
    return (y.astype(jnp.float32) ** 2).sum()

  here = jax.sharding.SingleDeviceSharding(chip)
  x, kernel = (
    jax.ShapeDtypeStruct(shape, jnp.bfloat16, sharding=here)
    for shape in ((images, size, size, channels), (3, 3, channels, channels))
  )
  lowered = jax.jit(jax.grad(loss, (0, 1))).lower(x, kernel)
  before = resource.getrusage(resource.RUSAGE_SELF)
  program = lowered.compile(compiler_options=options)
  after = resource.getrusage(resource.RUSAGE_SELF)
  seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
  text = re.sub(r", backend_config=.*", "", program.as_text())
  return seconds, program.memory_analysis().generated_code_size_in_bytes, text


def main():
  """Prints a line for every shape."""
  target.prepare()
  where = target.parse("v5e:1x1")
  with target.compiling(where) as (chip,):
    for shape in SHAPES:
      every, first = (compiled(chip, o, *shape) for o in (None, target.options(where)))
      print(
        f"{shape}: {every[0]:.1f} s, first window {first[0]:.1f} s;"
        f" code {every[1] / 1e6:.2f} and {first[1] / 1e6:.2f} MB;"
        f" the rest {'the same' if every[2] == first[2] else 'differs'}",
        flush=True,
      )


if __name__ == "__main__":
  main()
