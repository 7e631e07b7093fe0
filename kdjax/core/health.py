"""Detection of clients whose numbers are not finite, and their isolation from other clients.

A step whose losses, gradients or statistics are not finite is skipped: weights and statistics stay
as they were, and the optimiser sees gradients of zero. So every number of the clients' states stays
finite, and nothing else can reach another client. `config.faults.client` chooses what follows: the
client goes on with its next batch ('reset'), it is frozen for the rest of the run and no other
client uses its messages ('freeze'), or the run ends ('stop').

No check needs an extra pass over the weights. `may_step` looks at the smallest array of every
module: a gradient that is not finite reaches its module's bias as it does the kernel.
`safe_gradients` checks every gradient where the optimiser reads it. One case remains: a single
gradient entry may overflow; it is set to zero, so that weight does not move. Gradients are bounded
by a sixteenth of the square root of the largest number, so that neither their squares nor their
sums overflow.
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

SLACK = 1e-2  # tolerance for sums of bfloat16 probabilities, which have eight bits each


def fresh() -> Health:
  """The health of a client before its first step."""
  i32 = lambda n: jnp.asarray(n, jnp.int32)
  return Health(since=i32(-1), faults=i32(0), refused=i32(0))


def finite(tree: PyTree) -> Bool[Array, ""]:
  """bool[]: whether all numbers of a pytree are finite."""
  return jnp.stack([jnp.isfinite(x).all() for x in jax.tree.leaves(tree)] or [True]).all()


def may_step(aux: dict[str, jax.Array], grads: PyTree, statistics: PyTree) -> Bool[Array, ""]:
  """bool[]: whether one client's step may be taken: losses, gradients and statistics are finite."""
  return finite((aux, smallest(grads), statistics))


def smallest(params: PyTree) -> list[jax.Array]:
  """The smallest array of every module."""
  modules: dict[tuple, list[jax.Array]] = {}
  for path, leaf in jax.tree_util.tree_leaves_with_path(params):
    modules.setdefault(path[:-1], []).append(leaf)
  return [min(leaves, key=lambda x: x.size) for leaves in modules.values()]


def safe_gradients(taken: Bool[Array, ""], grads: PyTree) -> PyTree:
  """Gradients for an optimiser: zeros if the step is not taken, and for entries out of bounds."""

  def safe(g):
    bound = math.sqrt(float(jnp.finfo(g.dtype).max)) / 16
    return jnp.where(taken & (jnp.abs(g) < bound), g, 0)  # the comparison is false for NaN

  return jax.tree.map(safe, grads)


def is_active(env: Env, health: Health) -> Bool[Array, "..."]:
  """bool, of the shape of `health`'s leaves: which clients are not frozen."""
  if env.training.fault != "freeze":
    return jnp.ones_like(health.since, bool)
  return health.since < 0


def counted(health: Health, failed: Bool[Array, ""], refused: jax.Array | float | int) -> Health:
  """One client's health after a step; `stamp` adds the position.

  Args:
    health: before the step.
    failed: bool[], whether the step was skipped: a loss, gradient or statistic was not finite.
    refused: the number of rejected teacher predictions.
  """
  return health._replace(
    faults=health.faults + failed.astype(jnp.int32),
    refused=health.refused + jnp.asarray(refused).astype(jnp.int32),
  )


def servers(server: PyTree) -> list[Health]:
  """The health of the models that a method's `server` trains, leaves [R]."""
  leaves = jax.tree.leaves(server, is_leaf=lambda x: isinstance(x, Health))
  return [x for x in leaves if isinstance(x, Health)]


def stamp(before: PyTree, after: PyTree, call: Int[Array, ""]) -> PyTree:
  """The state `after` a call, with `since` set for clients and servers with their first fault."""

  def stamped(old, new):
    if not isinstance(new, ClientState):
      return new
    h = new.health
    first = (h.since < 0) & (h.faults > old.health.faults)
    return new._replace(health=h._replace(since=jnp.where(first, call, h.since)))

  return jax.tree.map(stamped, before, after, is_leaf=lambda x: isinstance(x, ClientState))


def active_clients(env: Env, clients: tuple[ClientState, ...]) -> Bool[Array, " clients"]:
  """bool[R*K], on every device: which clients are not frozen.

  A method masks out frozen clients wherever a client's values reach another one. Where no client
  can freeze, all are active and nothing is communicated.
  """
  if env.training.fault != "freeze":
    return jnp.ones(env.clients, bool)
  return env.gather(tuple(is_active(env, c.health) for c in clients))


def frozen(env: Env, clients: tuple[ClientState, ...]) -> set[int]:
  """Global numbers of the frozen clients among those of `env.cohorts`, on the host."""
  if env.training.fault != "freeze":
    return set()
  since = [np.asarray(hosts.fetch(c.health.since)) for c in clients]
  return {k for c, s in zip(env.cohorts, since, strict=True) for k in np.asarray(c.ids)[s >= 0]}


def only_active(
  env: Env, clients: tuple[ClientState, ...], peer: Int[Array, " *n"]
) -> Int[Array, " *n"]:
  """Global client numbers i32[...], with -1 (no client) in place of frozen ones."""
  return jnp.where(active_clients(env, clients)[peer], peer, -1)


def finite_clients(tree: PyTree) -> Bool[Array, " K_g"]:
  """bool[K_g]: which clients' numbers are all finite; leaves [K_g, ...]."""
  fine = lambda x: jnp.isfinite(x).all(tuple(range(1, x.ndim)))
  return jnp.stack([fine(x) for x in jax.tree.leaves(tree)]).all(0)


def finite_rows(rows: Float[Array, "*n C"]) -> Bool[Array, "*n"]:
  """bool[...]: whether all numbers of a row, such as logits or an embedding, are finite."""
  return jnp.isfinite(rows).all(-1)


def distributions(p: Float[Array, "*n C"]) -> Bool[Array, "*n"]:
  """bool[...]: whether each row is part of a distribution: finite, not negative, sum at most 1."""
  return finite_rows(p) & (p >= 0).all(-1) & (p.sum(-1) <= 1 + SLACK)
