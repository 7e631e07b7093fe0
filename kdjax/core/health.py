"""Clients whose numbers stop being finite: noticed in every step, and kept from everyone else.

A step whose losses, gradients or statistics are not finite is not taken: weights and statistics
stay as they were, and the optimiser sees gradients of zero. So no number of any state is ever
anything but finite, and nothing else can reach another client. What happens next
`config.faults.client` says: the client goes on with its next batch ('reset'), it is frozen for
good and nobody hears it any more ('freeze'), or the run ends ('stop').

None of it is a pass over the weights. `may_step` looks at the smallest array of every module: a
gradient that is not finite reaches its module's bias as it does the kernel. `safe_gradients` looks
at every gradient where the optimiser reads it. What is left, a sum of products of finite numbers
that overflows in a single weight, moves that weight by nothing. Gradients are bounded by a
sixteenth of the root of the largest number, so that neither their squares nor their sums overflow.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from kdjax.core import hosts
from kdjax.core.arrays import Array
from kdjax.core.env import Env
from kdjax.types import ClientState, Health, PyTree

SLACK = 1e-2  # by which probabilities in bfloat16 miss 1: eight bits of each of them


def fresh() -> Health:
  """The health of a client that has done nothing yet."""
  i32 = lambda n: jnp.asarray(n, jnp.int32)
  return Health(since=i32(-1), faults=i32(0), refused=i32(0))


def finite(tree: PyTree) -> Bool[Array, ""]:
  """bool[]: whether all numbers of a pytree are finite."""
  return jnp.stack([jnp.isfinite(x).all() for x in jax.tree.leaves(tree)] or [True]).all()


def may_step(aux: dict[str, jax.Array], grads: PyTree, statistics: PyTree) -> Bool[Array, ""]:
  """bool[]: whether one client's step may be taken, by its losses, gradients and statistics."""
  return finite((aux, smallest(grads), statistics))


def smallest(params: PyTree) -> list[jax.Array]:
  """The smallest array of every module."""
  modules: dict[tuple, list[jax.Array]] = {}
  for path, leaf in jax.tree_util.tree_leaves_with_path(params):
    modules.setdefault(path[:-1], []).append(leaf)
  return [min(leaves, key=lambda x: x.size) for leaves in modules.values()]


def safe_gradients(taken: Bool[Array, ""], grads: PyTree) -> PyTree:
  """Gradients for an optimiser: zeros where a step is not taken, or a number out of bounds."""

  def one(g):
    bound = math.sqrt(float(jnp.finfo(g.dtype).max)) / 16
    return jnp.where(taken & (jnp.abs(g) < bound), g, 0)  # not a number is not below it

  return jax.tree.map(one, grads)


def is_active(env: Env, health: Health) -> Bool[Array, "..."]:
  """bool, of the shape of `health`'s leaves: who is not frozen."""
  if env.training.fault != "freeze":
    return jnp.ones_like(health.since, bool)
  return health.since < 0


def counted(health: Health, failed: Bool[Array, ""], refused: jax.Array | float | int) -> Health:
  """One client's health after a step; `stamp` says when.

  Args:
    health: before it.
    failed: bool[], whether the step was skipped: a loss, gradient or statistic was not finite.
    refused: predictions of teachers that were not taken in.
  """
  return health._replace(
    faults=health.faults + failed.astype(jnp.int32),
    refused=health.refused + jnp.asarray(refused).astype(jnp.int32),
  )


def servers(server: PyTree) -> list[Health]:
  """The health of what a method's `server` trains, leaves [R]."""
  found = jax.tree.leaves(server, is_leaf=lambda x: isinstance(x, Health))
  return [x for x in found if isinstance(x, Health)]


def stamp(before: PyTree, after: PyTree, step: Int[Array, ""]) -> PyTree:
  """`after` a step, with that step noted for all clients and servers whose first fault it was."""

  def one(old, new):
    if not isinstance(new, ClientState):
      return new
    h = new.health
    first = (h.since < 0) & (h.faults > old.health.faults)
    return new._replace(health=h._replace(since=jnp.where(first, step, h.since)))

  return jax.tree.map(one, before, after, is_leaf=lambda x: isinstance(x, ClientState))


def active_clients(env: Env, clients: tuple[ClientState, ...]) -> Bool[Array, " clients"]:
  """bool[R*K], on every device: which clients are not frozen.

  A method masks out all others wherever a client's values reach another one. Where no client can
  freeze all are active, and nothing is communicated.
  """
  if env.training.fault != "freeze":
    return jnp.ones(env.clients, bool)
  return env.gather(tuple(is_active(env, c.health) for c in clients))


def frozen(env: Env, clients: tuple[ClientState, ...]) -> set[int]:
  """Global numbers of the frozen clients among those that train here, on the host."""
  if env.training.fault != "freeze":
    return set()
  since = [np.asarray(hosts.fetch(c.health.since)) for c in clients]
  return {k for c, s in zip(env.cohorts, since, strict=True) for k in np.asarray(c.ids)[s >= 0]}


def only_active(
  env: Env, clients: tuple[ClientState, ...], peer: Int[Array, " *n"]
) -> Int[Array, " *n"]:
  """Global client numbers i32[...], with -1, nobody, in place of frozen ones."""
  return jnp.where(active_clients(env, clients)[peer], peer, -1)


def finite_clients(tree: PyTree) -> Bool[Array, " K_g"]:
  """bool[K_g]: whose numbers are all finite; leaves [K_g, ...]."""
  fine = lambda x: jnp.isfinite(x).all(tuple(range(1, x.ndim)))
  return jnp.stack([fine(x) for x in jax.tree.leaves(tree)]).all(0)


def finite_rows(said: Float[Array, "*n C"]) -> Bool[Array, "*n"]:
  """bool[...]: whether a teacher's numbers for an example, logits or embedding, are all finite."""
  return jnp.isfinite(said).all(-1)


def distributions(p: Float[Array, "*n C"]) -> Bool[Array, "*n"]:
  """bool[...]: whether each is part of a distribution: finite, not negative, of sum 1 or less."""
  return finite_rows(p) & (p >= 0).all(-1) & (p.sum(-1) <= 1 + SLACK)
