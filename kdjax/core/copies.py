"""Copies of whole models: a client fetches its sources' and runs them itself.

The sources of a client are all its teachers in the graph. A fetch copies the weights and statistics
of each source as one flat vector. Until the next fetch the client runs the copies on its own
examples, so nothing else is communicated and no source sees these examples.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from kdjax.core import losses, snapshots
from kdjax.core.arrays import Array
from kdjax.core.env import Env
from kdjax.core.health import finite_rows, only_active
from kdjax.core.hostile import as_sent
from kdjax.core.passes import eval_mode
from kdjax.types import ClientState, Phase


class Sources(NamedTuple):
  """The snapshots that one cohort's clients have fetched; S is the most sources of a client."""

  flat: Any  # f32[K_g, S, L], snapshots, padded to the longest
  peer: Any  # i32[K_g, S], the client that each snapshot is of; -1: none


def most(env: Env) -> int:
  """S: the largest number of sources of any client in any graph, at least 1."""
  return max(1, int(env.graph.adjacency.sum(-1).max()))


def listed(env: Env, batches: int) -> Int[np.ndarray, "clients S"]:
  """Every client's sources after `batches` training batches; i32[R*K, S], padded with -1."""
  adjacency = env.graph.at(batches)
  order = np.argsort(env.population.identity)
  peer = np.full((env.clients, most(env)), -1, np.int32)
  for k in range(env.clients):
    r, i = divmod(k, env.K)
    own = order[adjacency[i][order]] + r * env.K
    peer[k, : len(own)] = own
  return peer


def none(env: Env) -> tuple[Sources, ...]:
  """The state before the first fetch: tuple over cohorts of empty Sources."""
  ids = [env.ids(g) for g in range(len(env.cohorts))]
  flat = [jnp.zeros((len(k), most(env), snapshots.length(env)), env.dtype) for k in ids]
  peer = [jnp.full((len(k), most(env)), -1, jnp.int32) for k in ids]
  return tuple(map(Sources, flat, peer))


def fetch(
  env: Env, clients: tuple[ClientState, ...], peer: Int[Array, "clients S"]
) -> tuple[Sources, ...]:
  """Copies the sources' current models.

  Args:
    env: Env.
    clients: tuple over cohorts of ClientState.
    peer: i32[R*K, S], see `listed`.

  Returns:
    Tuple over cohorts of Sources; the peer of a snapshot that is not finite is -1.
  """
  sent = tuple(snapshots.pack(env, c) for c in as_sent(env, clients))
  peer = only_active(env, clients, peer)
  wanted = tuple(env.local_rows(g, peer) for g in range(len(clients)))
  fetched = env.fetch(sent, wanted, env.graph.union())
  return tuple(
    Sources(flat, jnp.where(finite_rows(flat), own, -1))
    for flat, own in zip(fetched, wanted, strict=True)
  )


def received(env: Env, peer: Int[np.ndarray, "clients S"]) -> dict[str, int]:
  """Bytes by kind that a fetch of `peer` i32[R*K, S] sends."""
  return {"checkpoints": int(snapshots.nbytes(env)[peer[peer >= 0]].sum())}


def fetch_phase(env: Env) -> Phase:
  """The phase that fills `state.local` with every client's sources; it takes no batch."""

  def step(state, batch, now):
    local = fetch(env, state.clients, now.args)
    return state._replace(local=local), ({},) * len(local)

  peer = lambda pos: listed(env, pos.batches)
  return Phase("fetch", step, None, 1, args=peer, bytes_sent=lambda pos: received(env, peer(pos)))


def logits(
  env: Env, flat: Float[Array, "S L"], peer: Int[Array, " S"], images: Float[Array, "N ..."]
) -> Float[Array, "S N C"]:
  """Logits of one client's sources, main heads in evaluation mode; zeros where the peer is -1.

  Args:
    env: Env.
    flat: f32[S, L].
    peer: i32[S].
    images: f32[N, ...].

  Returns:
    f32[S, N, C], behind a stop-gradient.
  """

  def predict(model, client, images):
    return eval_mode(model, client, images).logits[:, 0]

  def zeros(images):
    return jnp.zeros((len(images), env.task.classes), env.dtype)

  by_source = [
    snapshots.apply(env, predict, j, snapshot, images, nobody=zeros)
    for j, snapshot in zip(peer, flat, strict=True)
  ]
  return jax.lax.stop_gradient(jnp.stack(by_source))


def divergence(
  source_logits: Float[Array, "S N C"], peer: Int[Array, " S"], logits: Float[Array, "N C"]
) -> Float[Array, " N"]:
  """Mean over one client's sources of KL(p_a || p_b), Eq. 4 of https://arxiv.org/abs/2011.05961.

  Args:
    source_logits: f32[S, N, C].
    peer: i32[S].
    logits: f32[N, C], the client's own; only they receive gradient.

  Returns:
    f32[N], at least 0; 0 without sources. Sources whose logits are not finite are left out.
  """
  valid = (peer >= 0)[:, None] & finite_rows(source_logits)
  kl = losses.tempered_kl(jnp.where(valid[..., None], source_logits, 0), logits, 1.0)
  return mean_over_sources(kl, valid)


def mean_over_sources(values: Float[Array, "S N"], valid: Bool[Array, "S N"]) -> Float[Array, " N"]:
  """The mean f32[N] of values f32[S, N] over one client's valid sources; 0 without any."""
  return jnp.sum(values * valid, axis=0) / jnp.maximum(jnp.sum(valid, axis=0), 1)


def refused(source_logits: Float[Array, "S N C"], mask: Float[Array, " N"]) -> Float[Array, ""]:
  """The number of predictions that `divergence` leaves out; mask f32[N], 0 for padding."""
  return jnp.sum(~finite_rows(source_logits) * mask)
