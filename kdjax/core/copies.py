"""Copies of other clients' whole models, its sources, fetched and run by who learns from them.

The sources of a client are its teachers in the graph, all of them. A fetch copies their weights and
statistics, each as one flat vector; until the next fetch the client runs the copies on its own
examples, so that nothing else is communicated and no source sees them.
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
  """What the clients of one cohort have fetched; S is the largest number of sources."""

  flat: Any  # f32[K_g, S, L], snapshots, padded to the longest
  peer: Any  # i32[K_g, S], whose each is; -1: nobody's


def most(env: Env) -> int:
  """S: the most sources that any client ever has, at least 1."""
  return max(1, int(env.graph.adjacency.sum(-1).max()))


def listed(env: Env, batches: int) -> Int[np.ndarray, "clients S"]:
  """Everyone's sources after so many training batches; i32[R*K, S], -1 where there are fewer."""
  adjacency, order = env.graph.at(batches), np.argsort(env.population.identity)
  peer = np.full((env.clients, most(env)), -1, np.int32)
  for k in range(env.clients):
    r, i = divmod(k, env.K)
    own = order[adjacency[i][order]] + r * env.K
    peer[k, : len(own)] = own
  return peer


def none(env: Env) -> tuple[Sources, ...]:
  """The state before the first fetch: tuple over cohorts of Sources, nobody's."""
  ids = [env.ids(g) for g in range(len(env.cohorts))]
  flat = [jnp.zeros((len(k), most(env), snapshots.length(env)), env.dtype) for k in ids]
  peer = [jnp.full((len(k), most(env)), -1, jnp.int32) for k in ids]
  return tuple(map(Sources, flat, peer))


def fetch(
  env: Env, clients: tuple[ClientState, ...], peer: Int[Array, "clients S"]
) -> tuple[Sources, ...]:
  """Copies of the sources as they are now.

  Args:
    env: Env.
    clients: tuple over cohorts of ClientState.
    peer: i32[R*K, S], see `listed`.

  Returns:
    Tuple over cohorts of Sources; one that is not finite is nobody's.
  """
  flat = tuple(snapshots.pack(env, c) for c in as_sent(env, clients))
  peer = only_active(env, clients, peer)
  own = tuple(env.local_rows(g, peer) for g in range(len(clients)))
  found = env.fetch(flat, own, env.graph.union())
  return tuple(
    Sources(f, jnp.where(finite_rows(f), p, -1)) for f, p in zip(found, own, strict=True)
  )


def received(env: Env, peer: Int[np.ndarray, "clients S"]) -> dict[str, int]:
  """Bytes by kind of a fetch of `peer` i32[R*K, S]."""
  return {"checkpoints": int(snapshots.nbytes(env)[peer[peer >= 0]].sum())}


def fetch_phase(env: Env) -> Phase:
  """The phase, without a batch, that fills `state.local` with everyone's sources."""

  def step(state, batch, now):
    local = fetch(env, state.clients, now.args)
    return state._replace(local=local), ({},) * len(local)

  peer = lambda pos: listed(env, pos.batches)
  return Phase("fetch", step, None, 1, args=peer, bytes_sent=lambda pos: received(env, peer(pos)))


def logits(
  env: Env, flat: Float[Array, "S L"], peer: Int[Array, " S"], images: Float[Array, "N ..."]
) -> Float[Array, "S N C"]:
  """What one client's sources say, main heads in evaluation mode; zeros for nobody's.

  Args:
    env: Env.
    flat: f32[S, L].
    peer: i32[S].
    images: f32[N, ...].

  Returns:
    f32[S, N, C], behind a stop-gradient.
  """

  def say(model, client, images):
    return eval_mode(model, client, images).logits[:, 0]

  def silent(images):
    return jnp.zeros((len(images), env.task.classes), env.dtype)

  said = [
    snapshots.apply(env, say, j, x, images, nobody=silent) for j, x in zip(peer, flat, strict=True)
  ]
  return jax.lax.stop_gradient(jnp.stack(said))


def divergence(
  said: Float[Array, "S N C"], peer: Int[Array, " S"], logits: Float[Array, "N C"]
) -> Float[Array, " N"]:
  """Mean over one client's sources of KL(p_a || p_b), Eq. 4 of https://arxiv.org/abs/2011.05961.

  Args:
    said: f32[S, N, C], logits of the sources.
    peer: i32[S].
    logits: f32[N, C], the client's own; they alone receive gradient.

  Returns:
    f32[N], at least 0; 0 without sources. Numbers that are not finite are left out.
  """
  valid = (peer >= 0)[:, None] & finite_rows(said)
  kl = losses.tempered_kl(jnp.where(valid[..., None], said, 0), logits, 1.0)
  return mean_over_sources(kl, valid)


def mean_over_sources(values: Float[Array, "S N"], valid: Bool[Array, "S N"]) -> Float[Array, " N"]:
  """The mean f32[N] of values f32[S, N] over one client's sources where valid; 0 without any."""
  return jnp.sum(values * valid, axis=0) / jnp.maximum(jnp.sum(valid, axis=0), 1)


def refused(said: Float[Array, "S N C"], mask: Float[Array, " N"]) -> Float[Array, ""]:
  """How many predictions `divergence` leaves out; mask f32[N], 0 for padding."""
  return jnp.sum(~finite_rows(said) * mask)
