"""The local map: how one device runs its clients. It does not change their results."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from kdjax.core.noinline import noinline
from kdjax.types import PyTree

MAPS = ("vmap", "unroll", "scan")


def map_clients(local_map: str, fn: Callable, *args: PyTree) -> PyTree:
  """Applies `fn` to every client of a device.

  Args:
    local_map: 'vmap' (one batched program; every convolution becomes a grouped one), 'unroll' (one
      copy of the program per client) or 'scan' (a loop over clients).
    fn: a function of one client's pytrees.
    *args: pytrees whose leaves are `[K_g, ...]`.

  Returns:
    `fn`'s outputs, every leaf stacked to `[K_g, ...]`.
  """
  if local_map == "vmap":
    return jax.vmap(fn)(*args)
  if local_map == "scan":
    return jax.lax.map(lambda own: fn(*own), args)
  if local_map == "unroll":
    n = jax.tree.leaves(args)[0].shape[0]
    once = jax.jit(fn, inline=True)  # traced once, copied for every client
    outs = [once(*jax.tree.map(lambda x, k=k: x[k], args)) for k in range(n)]
    stacked = map(jnp.stack, zip(*map(jax.tree.leaves, outs), strict=True))
    return jax.tree.unflatten(jax.tree.structure(outs[0]), stacked)  # all structures are equal
  raise ValueError(f"unknown map {local_map!r}: one of {MAPS}")


def evolve(local_map: str, fn: Callable, state: PyTree, *args: PyTree) -> tuple[PyTree, PyTree]:
  """Updates every client's state by `fn`; with 'scan' the loop updates it in place.

  Args:
    local_map: as in `map_clients`.
    fn: (one client's state, *its arguments) -> (its new state, out).
    state: a pytree whose leaves are `[K_g, ...]`.
    *args: pytrees whose leaves are `[K_g, ...]`.

  Returns:
    (state, outs), every leaf `[K_g, ...]`.
  """
  if local_map != "scan":
    return map_clients(local_map, fn, state, *args)

  def pick(state, k):
    return jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, k, keepdims=False), state)

  def body(state, turn):
    k, arguments = turn
    # If this read were inlined, XLA would copy whole stacks to read them while it writes them.
    old = noinline(pick)(state, k)
    new, out = fn(old, *arguments)
    put = lambda stack, own: jax.lax.dynamic_update_index_in_dim(stack, own, k, 0)
    return jax.tree.map(put, state, new), out

  clients = jax.tree.leaves(state)[0].shape[0]
  return jax.lax.scan(body, state, (jnp.arange(clients), args))
