"""The rolling pool of other clients' snapshots, kept by the student.

Zhmoginov et al., CVPR 2023, Section 4.1: client i keeps N_P checkpoints, distils from a few of
them at each step, and every S_P steps one random slot is replaced by a fresh checkpoint of one of
its teachers. The student evaluates them itself, on public examples of its own; only a refresh
communicates. A snapshot is one flat vector, so that different architectures share one array.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from kdjax.algorithms.mhd.exchange import Exchange, PredictFn, in_mode
from kdjax.algorithms.mhd.hyper import Hyper
from kdjax.core import graph, health, hostile, snapshots
from kdjax.core.arrays import Array
from kdjax.core.env import Env
from kdjax.core.random import host_rng
from kdjax.types import Batch, ClientState, Examples, Now, Phase, Step, TrainState


class Pool(NamedTuple):
  """The pools of one cohort's clients."""

  flat: jax.Array  # f32[K_g, P, L], snapshots, padded to the longest
  peer: jax.Array  # i32[K_g, P], the client that the snapshot is of; -1: the slot is empty
  born: jax.Array  # i32[K_g, P], training batches that the peer had taken


class Arrival(NamedTuple):
  """The snapshots that a refresh brings to the clients of one cohort."""

  slot: jax.Array  # i32[K_g], the slot that is replaced
  snapshot: jax.Array  # f32[K_g, L]
  peer: jax.Array  # i32[K_g], the client that the snapshot is of; -1: none has arrived
  born: jax.Array  # i32[] or i32[K_g], training batches that the peer had taken


def draw(
  key: jax.Array, peer: Int[Array, " P"], D: int
) -> tuple[Int[Array, " D"], Bool[Array, " D"]]:
  """Draws D slots of one client's pool without replacement, uniformly among the filled ones.

  Args:
    key: the client's key for this step; consumed.
    peer: i32[P].
    D: teachers, at most P.

  Returns:
    (slot i32[D], valid bool[D]): `valid` is false where fewer than D slots are filled.
  """
  noise = jnp.where(peer >= 0, jax.random.gumbel(key, peer.shape), -jnp.inf)
  value, slot = jax.lax.top_k(noise, D)
  return slot, value > -jnp.inf


def replace(
  pool: Pool,
  slot: Int[Array, " K_g"],
  snapshot: Float[Array, "K_g L"],
  peer: Int[Array, " K_g"],
  born: Int[Array, " _"] | Int[Array, ""],
) -> Pool:
  """Puts a fresh snapshot into one slot of every client's pool.

  Args:
    pool: Pool of one cohort.
    slot: i32[K_g].
    snapshot: f32[K_g, L].
    peer: i32[K_g]; a client with -1 keeps its pool as it is.
    born: i32[], or i32[K_g].

  Returns:
    Pool.
  """
  replaced = (jnp.arange(pool.peer.shape[1]) == slot[:, None]) & (peer >= 0)[:, None]  # [K_g, P]
  return Pool(
    flat=jnp.where(replaced[..., None], snapshot[:, None], pool.flat),
    peer=jnp.where(replaced, peer[:, None], pool.peer),
    born=jnp.where(replaced, jnp.reshape(born, (-1, 1)), pool.born),
  )


def exchange(env: Env, predict_fn: PredictFn, hyper: Hyper) -> Exchange:
  """The Exchange in which students evaluate their teachers' snapshots themselves."""
  drawn = functools.cache(functools.partial(draws, env, hyper))
  size = snapshots.nbytes(env)
  fetch = functools.partial(env.fetch, edges=env.graph.union())

  def args(pos):
    return (*drawn(pos.round), np.int32((pos.round + 1) * hyper.refresh_every))

  def fetched(pos):
    peer, _ = drawn(pos.round)
    return {"checkpoints": int(size[peer[peer >= 0]].sum())}

  refresh = refresh_step(functools.partial(fetch_drawn, env, fetch))
  return Exchange(
    functools.partial(first_pools, env, hyper, fetch),
    functools.partial(prepare, env, hyper.teachers),
    functools.partial(teacher_predictions, env, predict_fn, hyper.speak_in),
    common=False,
    bytes_at_start=lambda: first_bytes(env, hyper),
    steps=hyper.refresh_every,
    refresh=Phase(
      "refresh", refresh, None, 1, args=args, bytes_sent=fetched, publish=hyper.publish
    ),
  )


def prepare(env: Env, teachers: int, state: TrainState, batch: Batch, now: Now) -> tuple:
  """Draws D snapshots of every client's pool.

  Returns:
    Over cohorts: (flat f32[K_g, D, L], peer i32[K_g, D], valid bool[K_g, D]).
  """

  def draw_one(key, pool):
    past = pool.born <= now.phase_call
    past |= env.is_peer  # other clients that train apart may be ahead of this one
    usable = (pool.peer < env.clients) & past
    slot, valid = draw(key, jnp.where(usable, pool.peer, -1), teachers)
    return pool.flat[slot], pool.peer[slot], valid

  keys = [env.keys(g, "teachers", now.phase_call) for g in range(len(env.cohorts))]
  return tuple(jax.vmap(draw_one)(k, p) for k, p in zip(keys, state.local, strict=True))


def teacher_predictions(
  env: Env, predict_fn: PredictFn, speak_in: str, teachers: tuple, half: Examples
) -> tuple:
  """Predictions of one client's drawn snapshots for its public half: (p, xi, valid)."""
  flat, peer, valid = teachers

  def predict(model, teacher, half):
    return predict_fn(in_mode(speak_in, model, teacher, half))

  by_teacher = []
  for d, (j, snapshot) in enumerate(zip(peer, flat, strict=True)):
    key = jax.random.fold_in(half.key, d)  # in training mode each teacher has its own dropout
    by_teacher.append(snapshots.apply(env, predict, j, snapshot, half._replace(key=key)))
  p, xi = jax.tree.map(lambda *xs: jnp.stack(xs), *by_teacher)
  return p, xi, valid


def first_pools(
  env: Env, hyper: Hyper, fetch: Callable, clients: tuple[ClientState, ...]
) -> tuple[Pool, ...]:
  """The first pools, by `hyper.pool_start`; `fetch` is `env.fetch` along edges, or `env.of_all`."""
  first = first_teachers(env, hyper)
  peer = np.concatenate([np.where(first < 0, -1, first + r * env.K) for r in range(env.R)])
  wanted = tuple(env.local_rows(g, peer.astype(np.int32)) for g in range(len(env.cohorts)))
  flat = tuple(snapshots.pack(env, c) for c in hostile.as_sent(env, clients))
  return tuple(
    Pool(slots, p, jnp.zeros_like(p)) for slots, p in zip(fetch(flat, wanted), wanted, strict=True)
  )


def first_teachers(env: Env, hyper: Hyper) -> Int[np.ndarray, "K P"]:
  """The clients whose first weights fill the slots: each client's teachers in turn; i64[K, P].

  -1: the slot is empty.
  """
  P = hyper.pool_size
  order = np.argsort(env.population.identity)
  if hyper.pool_start == "empty":
    return np.full((env.K, P), -1)
  rows = [order[row[order]] for row in env.graph.at(0)]
  return np.stack([np.resize(t, P) if len(t) else np.full(P, -1) for t in rows])


def first_bytes(env: Env, hyper: Hyper) -> dict[str, int]:
  """Bytes by kind of the snapshots that the pools start with, each fetched once per client."""
  first = first_teachers(env, hyper)
  ids = [np.unique(row[row >= 0]) + r * env.K for r in range(env.R) for row in first]
  size = snapshots.nbytes(env)
  return {"checkpoints": int(size[np.concatenate(ids).astype(int)].sum())}


def draws(env: Env, hyper: Hyper, round: int) -> tuple[np.ndarray, np.ndarray]:
  """(teacher that every client fetches at a refresh, slot that it overwrites), i32[R*K] each."""
  adjacency = env.graph.at((round + 1) * hyper.refresh_every)
  names = env.population.identity
  peer, slot = [], []
  for r, seed in enumerate(env.population.seeds):
    j = graph.choose(
      adjacency, seed=seed, purpose="refresh", step=round, identity=np.asarray(names)
    )
    peer.append(np.where(j < 0, -1, j + r * env.K))
    slot.append([host_rng(seed, "slot", round, n).integers(hyper.pool_size) for n in names])
  return np.concatenate(peer).astype(np.int32), np.concatenate(slot).astype(np.int32)


def fetch_drawn(env: Env, fetch: Callable, state: TrainState, now: Now) -> tuple[Arrival, ...]:
  """The arrivals of a refresh, for the whole ensemble in one program.

  `now.args` are `draws` and the training batches so far.
  """
  peer, slot, born = now.args
  cohorts = range(len(env.cohorts))
  peer = health.only_active(env, state.clients, peer)
  wanted = tuple(env.local_rows(g, peer) for g in cohorts)
  sent = hostile.as_sent(env, state.clients)
  fresh = fetch(tuple(snapshots.pack(env, c) for c in sent), wanted)
  return tuple(Arrival(env.local_rows(g, slot), fresh[g], wanted[g], born) for g in cohorts)


def refresh_step(obtain: Callable[[TrainState, Now], tuple[Arrival, ...]]) -> Step:
  """`Phase.step`: every client replaces a slot of its pool by the snapshot that `obtain` brings."""

  def step(state, batch, now):
    local = tuple(
      replace(pool, *arrival) for pool, arrival in zip(state.local, obtain(state, now), strict=True)
    )
    return state._replace(local=local), ({},) * len(local)

  return step
