"""A contestant: products of two square matrices, the yardstick of all FLOP/s.

spec: {'size': n, 'dtype': name, 'steps': products of a block}.
"""

import jax
import jax.numpy as jnp

from benchmarks.contestants import protocol
from benchmarks.contestants.trainer import configure, facts


def prepare(spec):
  """See `protocol.serve`."""
  configure(spec)
  n = spec["size"]
  x = jax.random.normal(jax.random.key(0), (n, n), jnp.float32).astype(spec["dtype"])
  product = jax.jit(jnp.matmul)

  def block():
    jax.block_until_ready([product(x, x) for _ in range(spec["steps"])])

  return block, facts()


if __name__ == "__main__":
  protocol.serve(prepare)
