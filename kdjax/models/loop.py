"""Blocks of one shape as a loop, compiled once; the tree of variables stays as it is."""

import itertools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Float

from kdjax.core.arrays import Array


def groups(module: nn.Module, names: Sequence[str]) -> list[list[str]]:
  """Blocks in a row that hold variables of the same shapes; each by itself where none do yet.

  Args:
    module: the one that is called.
    names: of its blocks, in order.
  """
  if module.is_initializing():
    return [[name] for name in names]
  shapes = lambda name: jax.tree.map(jnp.shape, _held(module, name))
  return [list(alike) for _, alike in itertools.groupby(names, shapes)]


def scan_blocks(
  module: nn.Module,
  block: Callable,
  names: Sequence[str],
  x: Float[Array, "B h w c"],
  train: bool,
  mask: Float[Array, " B"] | None,
) -> Float[Array, "B h w c"]:
  """What the blocks make of x, one after another, by a scan over their stacked variables.

  Their statistics come back under their own names. They take no random numbers.

  Args:
    module: the one that is called, initialised, `names` not called in it yet.
    block: a Block that belongs to no module.
    names: a group of `groups`.
    x, train, mask: as a block takes them.
  """

  def one(x, variables):
    return block.apply(variables, x, train, mask, mutable=mutable)

  stacked = jax.tree.map(lambda *v: jnp.stack(v), *(_held(module, name) for name in names))
  mutable = [kind for kind in stacked if module.is_mutable_collection(kind)]
  x, changed = jax.lax.scan(one, x, stacked)
  for i, name in enumerate(names):
    for kind, tree in changed.items():
      module.put_variable(kind, name, jax.tree.map(lambda v, i=i: v[i], tree))
  return x


def _held(module, name):
  """A block's variables by kind."""
  return {kind: held[name] for kind, held in module.variables.items() if name in held}
