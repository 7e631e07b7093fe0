"""Gossip: clients train alone, and in each round one random edge lets its two ends agree.

In each round every client takes local steps on
`weight L_i + strength / 2 ||theta_i - anchor_i||^2`, where L_i is the mean cross entropy on its
private data. Then one edge of the undirected graph wakes. Two variants define the anchor.

'average', asynchronous pair averaging with proximal local steps: the two ends continue from the
mean of their parameters and of their BatchNorm statistics. A client's anchor is its last average
(at first its first weights), its strength is rho, its weight 1.

'admm', CL-ADMM of Vanhaesebrouck, Bellet, Tommasi: Decentralized Collaborative Learning of
Personalized Models over Networks, AISTATS 2017, https://arxiv.org/abs/1610.05202, Section 4, in
its asynchronous version. Every client keeps a model of its own, and together they minimise
sum_i Q_i,

  Q_i = 1/2 sum_j W_ij ||theta_i - theta_j||^2 + mu D_ii c_i L_i(theta_i),

W_ij = 1 on edges, D_ii the number of neighbours, c_i = n_i / max_j n_j. For each edge e = (i, j)
client i keeps a copy theta_i^j of its neighbour's model, consensus variables z_e^i and z_e^j for
both models, and duals lambda_i^i and lambda_i^j:

  primal   theta_i, theta_i^j minimise Q_i(theta_i, theta_i^.) + sum_j sum_{k in i, j}
             lambda_i^k . (theta_i^k - z_e^k) + rho / 2 ||theta_i^k - z_e^k||^2
  z        z_e^k = (theta_i^k + lambda_i^k / rho + theta_j^k + lambda_j^k / rho) / 2
  dual     lambda_i^k = lambda_i^k + rho (theta_i^k - z_e^k)

z and the duals change on the edge that wakes. In closed form, (1 + rho) theta_i^j = theta_i +
rho z_e^j - lambda_i^j. With this, the primal problem becomes that of the local steps above with

  weight_i = mu D_ii c_i,  strength_i = D_ii rho (2 + rho) / (1 + rho),
  anchor_i = sum_j [rho z_e^i - lambda_i^i + (rho z_e^j - lambda_i^j) / (1 + rho)] / strength_i.

Departures: every client takes local steps in every round, so that methods compare at equal numbers
of examples. In the paper only the two ends of the woken edge compute. The two are the same if the
primal problem is solved exactly, because then only z and the duals carry over. BatchNorm statistics
are not part of the objective and stay with the client. At first z is each client's own first
weights and the duals are 0; with `start.common` neighbours agree from the beginning. Graphs that
take turns count as their union.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from kdjax.core import health, hostile, losses, snapshots
from kdjax.core.arrays import Array
from kdjax.core.clients import has_data, local_mean, update
from kdjax.core.costs import nbytes
from kdjax.core.env import Env
from kdjax.core.graph import Schedule
from kdjax.core.random import host_rng
from kdjax.core.ranges import MOST_EPOCHS, above_0, at_least, between, one_of
from kdjax.types import (
  Algorithm,
  Apply,
  ConfigError,
  Examples,
  Feed,
  Method,
  Phase,
  PyTree,
)


class Variant(NamedTuple):
  """The exchange along a woken edge, and the weights of the local steps."""

  init: Callable  # ClientState [K_g, ...] -> dict of local state with 'anchor' f32[K_g, L]
  # (ClientState, local state, partner i32[K_g]; -1: asleep) -> (ClientState, local state)
  meet: Callable
  weight: Any  # f64[R*K], of the loss
  strength: Any  # f64[R*K], of the pull towards the anchor
  meeting_bytes: int  # bytes that a woken edge sends, both ways


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hyper:
  """Hyper-parameters of gossip."""

  variant: str  # average or admm
  local_epochs: int  # passes over the private data between two edges that wake
  rho: float  # strength of the proximal term, or ADMM's penalty
  mu: float  # weight of the losses against the neighbours' agreement; ignored by average

  def __post_init__(self):
    """Raises ConfigError for invalid values."""
    one_of(("average", "admm"), variant=self.variant)
    between(1, MOST_EPOCHS, local_epochs=self.local_epochs)
    at_least(0, rho=self.rho, mu=self.mu)
    if self.variant == "admm":
      above_0(rho=self.rho, mu=self.mu)


def make(env: Env, hyper: Hyper) -> Algorithm:
  """Gossip; see the file's docstring.

  Raises:
    ConfigError: for a client without neighbours.
  """
  graph = neighbours(env.graph)
  if not graph.any(1).all():
    alone = np.flatnonzero(~graph.any(1)).tolist()
    raise ConfigError("graph", alone, "these clients have no neighbour to gossip with")
  if hyper.variant == "average":
    variant = average(env, graph, rho=hyper.rho)
  else:
    variant = admm(env, graph, rho=hyper.rho, mu=hyper.mu)

  def local(state, batch, now):
    (half,) = batch.private
    anchor = state.local[0]["anchor"]
    rows = lambda x: env.local_rows(0, x).astype(anchor.dtype)
    data = (LocalData(half, anchor, rows(variant.weight), rows(variant.strength)),)
    clients, aux = update(env, state.clients, objective, data, now.lr, (has_data(half),))
    return state._replace(clients=clients), aux

  def meet(state, batch, now):
    partner = now.args
    active = health.active_clients(env, state.clients)
    partner = jnp.where(active & active[partner], partner, -1)
    client, own = variant.meet(state.clients[0], state.local[0], env.local_rows(0, partner))
    return state._replace(clients=(client,), local=(own,)), ({},)

  feed = Feed(private=env.training.batch, kind="epoch", epochs=hyper.local_epochs)
  cycle = (
    Phase("local", local, feed, None),
    Phase(
      "meet",
      meet,
      None,
      1,
      args=lambda pos: partners(env, graph, pos.round),
      bytes_sent=lambda pos: {"weights": env.R * variant.meeting_bytes},
    ),
  )
  init = lambda clients: (clients, (variant.init(clients[0]),), ())
  return Algorithm(init, cycle, env.predict, uses_graph=True)


METHOD = Method(Hyper, make, one_architecture=True)


class LocalData(NamedTuple):
  """The data of one client's local step."""

  half: Examples
  anchor: jax.Array  # f32[L], the weights that the client is pulled towards
  weight: jax.Array  # f32[], of the loss
  strength: jax.Array  # f32[], of the pull


def objective(apply: Apply, params: PyTree, d: LocalData) -> tuple[jax.Array, tuple[dict, PyTree]]:
  """The objective of local steps for `core.clients.update`."""
  out, model_state = apply(params, d.half)
  loss = losses.cross_entropy(out.logits[:, 0], d.half.label)
  away = snapshots.flatten(params, d.anchor.size) - d.anchor
  pull = d.strength / 2 * jnp.sum(away * away)
  total = local_mean(d.weight * loss + pull, d.half)
  own = local_mean(loss, d.half)
  return total, ({"loss": total, "cross_entropy": own}, model_state)


def neighbours(schedule: Schedule) -> Bool[np.ndarray, "K K"]:
  """Pairs of clients that share an edge, in any direction and graph of a schedule; bool[K, K]."""
  return schedule.union() | schedule.union().T


def woken(
  graph: Bool[np.ndarray, "K K"], *, seed: int, round: int, identity: Int[np.ndarray, " K"]
) -> Int[np.ndarray, "2"]:
  """Draws the edge that wakes after a round's local steps, uniformly among all edges.

  Args:
    graph: bool[K, K], symmetric, with an edge.
    seed: the replica's seed.
    round: rounds completed.
    identity: i64[K], the name each client draws under.

  Returns:
    i64[2], the two clients.
  """
  noise = host_rng(seed, "edge", round).random((len(graph), len(graph)))
  noise = (noise + noise.T)[np.ix_(identity, identity)]
  return np.array(np.unravel_index(np.where(graph, noise, -1.0).argmax(), graph.shape))


def partners(env: Env, graph: Bool[np.ndarray, "K K"], round: int) -> Int[np.ndarray, " clients"]:
  """Every client's partner after a round's local steps; i32[R*K], -1: none."""
  partner = np.full(env.clients, -1, np.int32)
  identity = np.asarray(env.population.identity)
  for r, seed in enumerate(env.population.seeds):
    i, j = woken(graph, seed=seed, round=round, identity=identity) + r * env.K
    partner[i], partner[j] = j, i
  return partner


def average(env: Env, graph: Bool[np.ndarray, "K K"], *, rho: float) -> Variant:
  """Variant 'average'; `graph` bool[K, K], `rho`: see `Hyper`."""
  flat = functools.partial(_flat, env.snapshots()[0])

  def init(client):
    return {"anchor": _flat(env.cohorts[0].template.params, client.params)}

  def meet(client, kept, partner):
    own = flat((client.params, client.model_state))
    (sent,) = hostile.as_sent(env, (client,))
    (other,) = env.fetch((flat((sent.params, sent.model_state)),), (partner,), graph)
    met = (partner >= 0) & health.finite_rows(other)  # models that are not finite are ignored
    mean = jnp.where(met[:, None], (own + other) / 2, own)
    params, model_state = jax.vmap(lambda x: snapshots.unflatten(x, env.snapshots()[0]))(mean)
    anchor = _flat(env.cohorts[0].template.params, params)
    anchor = jnp.where(met[:, None], anchor, kept["anchor"])
    return client._replace(params=params, model_state=model_state), {"anchor": anchor}

  ones = np.ones(env.clients)
  return Variant(init, meet, ones, rho * ones, 2 * nbytes(env.snapshots()[0]))


def admm(env: Env, graph: Bool[np.ndarray, "K K"], *, rho: float, mu: float) -> Variant:
  """Variant 'admm'; `graph` bool[K, K], `rho` and `mu`: see `Hyper`."""
  flat = functools.partial(_flat, env.cohorts[0].template.params)
  degree = np.tile(graph.sum(1), env.R)
  sizes = np.asarray(env.task.private_sizes, float).reshape(env.R, env.K)
  confidence = (sizes / sizes.max(1, keepdims=True)).ravel()
  strength = degree * rho * (2 + rho) / (1 + rho)

  def around(z, dual):
    linked = jnp.asarray(graph)[env.ids(0) % env.K]
    return jax.vmap(functools.partial(anchor, rho=rho))(z, dual, linked)

  def init(client):
    theta = flat(client.params)
    z = jnp.broadcast_to(theta[:, None, None], (len(theta), env.K, 2, theta.shape[-1]))
    return {"anchor": theta, "z": z, "dual": jnp.zeros_like(z)}

  def meet(client, kept, partner):
    woken = jnp.arange(env.K) == jnp.where(partner < 0, -1, partner % env.K)[:, None]  # [K_g, K]
    edge = woken.argmax(1)[:, None, None, None]
    z, dual = (jnp.take_along_axis(kept[k], edge, axis=1)[:, 0] for k in ("z", "dual"))
    messages = jax.vmap(functools.partial(tell, rho=rho))
    own = messages(flat(client.params), z, dual)
    (sent,) = hostile.as_sent(env, (client,))
    (other,) = env.fetch((messages(flat(sent.params), z, dual),), (partner,), graph)
    woken &= jnp.isfinite(other).all((1, 2))[:, None]  # messages that are not finite are ignored
    z, dual = agree(own, other, rho=rho)
    write = lambda new, old: jnp.where(woken[..., None, None], new[:, None], old)
    z = write(z, kept["z"])
    dual = write(dual, kept["dual"])
    return client, {"anchor": around(z, dual), "z": z, "dual": dual}

  meeting_bytes = 4 * nbytes(env.cohorts[0].template.params)  # each end sends both models
  return Variant(init, meet, mu * degree * confidence, strength, meeting_bytes)


def anchor(
  z: Float[Array, "K 2 L"], dual: Float[Array, "K 2 L"], linked: Bool[Array, " K"], *, rho: float
) -> Float[Array, " L"]:
  """The point towards which the local steps of 'admm' are pulled.

  Args:
    z, dual: f32[K, 2, L], one client's, on its edges to all clients: of its own model and of the
      neighbour's.
    linked: bool[K], which clients are neighbours.
    rho: ADMM's penalty.

  Returns:
    f32[L].
  """
  own, other = jnp.moveaxis(rho * z - dual, 1, 0)  # [K, L] each
  pull = jnp.where(linked[:, None], own + other / (1 + rho), 0).sum(0)
  return pull / (linked.sum() * rho * (2 + rho) / (1 + rho))


def tell(
  theta: Float[Array, " L"], z: Float[Array, "2 L"], dual: Float[Array, "2 L"], *, rho: float
) -> Float[Array, "2 L"]:
  """The message of one end of a woken edge about both models, `theta_i^k + lambda_i^k / rho`.

  Args:
    theta: f32[L], its own model.
    z, dual: f32[2, L], on this edge: of its own model and of the neighbour's.
    rho: ADMM's penalty.

  Returns:
    f32[2, L].
  """
  copy = (theta + rho * z[1] - dual[1]) / (1 + rho)
  return jnp.stack([theta, copy]) + dual / rho


def agree(
  own: Float[Array, "*K 2 L"], other: Float[Array, "*K 2 L"], *, rho: float
) -> tuple[Float[Array, "*K 2 L"], Float[Array, "*K 2 L"]]:
  """(z, dual) of a woken edge, f32[..., 2, L], from the messages of its two ends.

  The dual is `lambda + rho (theta - z)`, which is `rho (own - z)`.

  Args:
    own, other: f32[..., 2, L], messages by `tell`, each with the sender's own model first.
    rho: ADMM's penalty.
  """
  z = (own + other[..., ::-1, :]) / 2
  return z, rho * (own - z)


def _flat(template, tree):
  """f32[K_g, L] of a pytree with leaves [K_g, ...]; `template` has one client's shapes."""
  length = sum(x.size for x in jax.tree.leaves(template))
  return jax.vmap(lambda x: snapshots.flatten(x, length))(tree)
