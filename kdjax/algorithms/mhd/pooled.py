"""Teachers in the student's pool (Zhmoginov et al., CVPR 2023, Section 4.1).

The student keeps snapshots of its teachers and evaluates them itself, on public examples of its
own. A refresh is all that communicates.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.algorithms.mhd import pool as pools
from kdjax.algorithms.mhd.exchange import Exchange
from kdjax.core import graph, snapshots
from kdjax.core.random import host_rng
from kdjax.types import Phase


def exchange(env, speak, *, teachers, pool_size, refresh_every, publish):
  """Students evaluate snapshots of their teachers themselves, in evaluation mode.

  Args:
    env: Env.
    speak: ModelOut -> (p f32[U, m, C], xi f32[U, F]).
    teachers: D, drawn per step and client.
    pool_size: P.
    refresh_every: training batches between two refreshes of one slot.
    publish: snapshots a client to keep in the run folder; 0: none.
  """
  cohort_of, size = snapshots.cohort_of(env), snapshots.nbytes(env)

  def flat(clients):
    return tuple(snapshots.pack(env, c) for c in clients)

  def init(clients):
    first = first_teachers(env.graph.at(0), pool_size, env.identity)  # [K, P]
    peer = np.concatenate([np.where(first < 0, -1, first + r * env.K) for r in range(env.R)])
    peer = tuple(env.local_rows(g, peer.astype(np.int32)) for g in range(len(clients)))
    said = flat(clients)
    return tuple(
      pools.Pool(slots, p, jnp.zeros_like(p))
      for slots, p in zip(env.fetch(said, peer), peer, strict=True)
    )

  def ask(state, batch, now):
    def one(key, pool):
      slot, valid = pools.draw(key, pool.peer, teachers)
      return pool.flat[slot], pool.peer[slot], valid

    keys = [env.keys(g, "teachers", now.count) for g in range(len(env.cohorts))]
    return tuple(jax.vmap(one)(k, p) for k, p in zip(keys, state.local, strict=True))

  def teach(flat, images, g):
    params, model_state = snapshots.unflatten(flat, env.snapshots()[g])
    variables = {"params": params, **model_state}
    return speak(env.cohorts[g].model.apply(variables, images, train=False))

  def hear(asked, images):
    flat, peer, valid = asked
    branches = [functools.partial(teach, g=g) for g in range(len(env.cohorts))]
    said = []
    for d in range(teachers):
      if len(branches) == 1:
        said.append(branches[0](flat[d], images))
      else:
        said.append(jax.lax.switch(jnp.asarray(cohort_of)[peer[d]], branches, flat[d], images))
    p, xi = jax.tree.map(lambda *xs: jnp.stack(xs), *said)
    return p, xi, valid

  @functools.cache
  def draws(round):
    """Whom every client fetches at a refresh, and the slot that it overwrites: i32[R*K] each."""
    adjacency = env.graph.at((round + 1) * refresh_every)
    peer, slot = [], []
    for r, seed in enumerate(env.seeds):
      j = graph.choose(
        adjacency, seed=seed, purpose="refresh", step=round, identity=np.asarray(env.identity)
      )
      peer.append(np.where(j < 0, -1, j + r * env.K))
      rngs = [host_rng(seed, "slot", round, name) for name in env.identity]
      slot.append([rng.integers(pool_size) for rng in rngs])
    return np.concatenate(peer).astype(np.int32), np.concatenate(slot).astype(np.int32)

  def refresh(state, batch, now):
    peer, slot, born = now.args
    own = tuple((env.local_rows(g, peer), env.local_rows(g, slot)) for g in range(len(env.cohorts)))
    fresh = env.fetch(flat(state.clients), tuple(p for p, _ in own))
    local = tuple(
      pools.replace(pool, slot, x, peer, born)
      for pool, x, (peer, slot) in zip(state.local, fresh, own, strict=True)
    )
    return state._replace(local=local), ({},) * len(local)

  def args(pos):
    return (*draws(pos.round), np.int32((pos.round + 1) * refresh_every))

  def fetched(pos):
    peer, _ = draws(pos.round)
    return {"checkpoints": int(size[peer[peer >= 0]].sum())}

  def start():
    first = first_teachers(env.graph.at(0), pool_size, env.identity)
    ids = [np.unique(row[row >= 0]) + r * env.K for r in range(env.R) for row in first]
    return {"checkpoints": int(size[np.concatenate(ids).astype(int)].sum())}

  phase = Phase("refresh", refresh, None, 1, args=args, sent=fetched, publish=publish)
  return Exchange(init, ask, hear, common=False, start=start, steps=refresh_every, refresh=phase)


def first_teachers(adjacency, pool_size, identity):
  """Whose first weights fill the pools: each client's teachers in turn; i64[K, P], -1 for none."""
  order = np.argsort(identity)
  rows = [order[row[order]] for row in adjacency]
  return np.stack([np.resize(t, pool_size) if len(t) else np.full(pool_size, -1) for t in rows])
