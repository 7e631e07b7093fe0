"""The local map: how one device runs its clients, without changing what they compute."""

import jax
import jax.numpy as jnp

from kdjax.core.noinline import apart

MAPS = ("vmap", "unroll", "scan")


def each(how, fn, *args):
  """Applies `fn` to every client of a device.

  Args:
    how: 'vmap' (one batched program; every convolution becomes a grouped one), 'unroll' (one copy
      of the program a client) or 'scan' (a loop over clients).
    fn: a function of one client's pytrees.
    *args: pytrees whose leaves are `[K_g, ...]`.

  Returns:
    `fn`'s outputs, every leaf stacked to `[K_g, ...]`.
  """
  if how == "vmap":
    return jax.vmap(fn)(*args)
  if how == "scan":
    return jax.lax.map(lambda one: fn(*one), args)
  if how == "unroll":
    n = jax.tree.leaves(args)[0].shape[0]
    outs = [fn(*jax.tree.map(lambda x, k=k: x[k], args)) for k in range(n)]
    stacked = map(jnp.stack, zip(*map(jax.tree.leaves, outs), strict=True))
    return jax.tree.unflatten(jax.tree.structure(outs[0]), stacked)  # all have one structure
  raise ValueError(f"unknown map {how!r}: one of {MAPS}")


def evolve(how, fn, state, *args):
  """Replaces every client's state by what `fn` makes of it; a loop does so in place.

  Args:
    how: as in `each`.
    fn: (one client's state, *its arguments) -> (its new state, out).
    state: a pytree whose leaves are `[K_g, ...]`.
    *args: pytrees whose leaves are `[K_g, ...]`.

  Returns:
    (state, outs), every leaf `[K_g, ...]`.
  """
  if how != "scan":
    return each(how, fn, state, *args)

  def pick(state, k):
    return jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, k, keepdims=False), state)

  def body(state, turn):
    k, mine = turn
    old = apart(pick)(state, k)  # else XLA copies whole stacks, to read them while it writes them
    new, out = fn(old, *mine)
    put = lambda x, one: jax.lax.dynamic_update_index_in_dim(x, one, k, 0)
    return jax.tree.map(put, state, new), out

  clients = jax.tree.leaves(state)[0].shape[0]
  return jax.lax.scan(body, state, (jnp.arange(clients), args))
