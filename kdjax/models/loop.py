"""Blocks of one shape as a loop, compiled once; the tree of variables does not change."""

import itertools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Float

from kdjax.core.arrays import Array


def groups(module: nn.Module, names: Sequence[str]) -> list[list[str]]:
  """Groups of consecutive blocks whose variables have the same shapes.

  During initialisation, where no block has variables, each block is a group.

  Args:
    module: the module that is called.
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
  """Applies the blocks to x one after another, by a scan over their stacked variables.

  Each block's statistics are stored under its own name. Blocks must not draw random numbers.

  Args:
    module: the module that is called; it is initialised and has not called `names` yet.
    block: a Block without a parent module.
    names: a group of `groups`.
    x, train, mask: arguments of a block.
  """

  def turn(x, variables):
    return block.apply(variables, x, train, mask, mutable=mutable)

  stacked = jax.tree.map(lambda *v: jnp.stack(v), *(_held(module, name) for name in names))
  mutable = [kind for kind in stacked if module.is_mutable_collection(kind)]
  x, changed = jax.lax.scan(turn, x, stacked)
  for i, name in enumerate(names):
    for kind, tree in changed.items():
      module.put_variable(kind, name, jax.tree.map(lambda v, i=i: v[i], tree))
  return x


def _held(module, name):
  """A block's variables by collection."""
  return {kind: held[name] for kind, held in module.variables.items() if name in held}
