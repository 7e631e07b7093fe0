"""MHD of clients that train apart: snapshots or predictions travel as messages, see kdjax/peers.

Draws, evaluation and losses are those of pool.py and broadcast.py; only the transport differs.
Messages that have not arrived are left out: a slot of a pool stays as it is, or a teacher is not
valid.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.algorithms.mhd import broadcast, messages, pool
from kdjax.algorithms.mhd.exchange import Exchange, PredictFn
from kdjax.algorithms.mhd.hyper import Hyper
from kdjax.core import health, snapshots
from kdjax.core.clients import whole_batch
from kdjax.core.env import Env
from kdjax.peers import Kind, Mail
from kdjax.peers.messages import largest, probabilities
from kdjax.types import Feed, Outside, Phase


def pools(env: Env, predict_fn: PredictFn, hyper: Hyper, mail: Mail) -> Exchange:
  """The rolling pool: at a refresh each client leaves its snapshot and takes a teacher's newest."""

  def obtain(state, now):
    local_ids = jnp.asarray(env.local_ids)
    rows = [jnp.searchsorted(local_ids, env.ids(g)) for g in range(len(env.cohorts))]
    return tuple(pool.Arrival(*(x[r] for x in now.args)) for r in rows)

  outside = swap_snapshots(env, hyper, mail)
  refresh = Phase("refresh", pool.refresh_step(obtain), None, 1, outside=outside)
  return Exchange(
    functools.partial(pool.first_pools, env, hyper, env.of_all),
    functools.partial(pool.prepare, env, hyper.teachers),
    functools.partial(pool.teacher_predictions, env, predict_fn, hyper.speak_in),
    common=False,
    steps=hyper.refresh_every,
    refresh=refresh._replace(publish=hyper.publish),
  )


def swap_snapshots(env: Env, hyper: Hyper, mail: Mail) -> Outside:
  """Leaves own snapshots and takes the teachers'; the args are an Arrival of `env.local_ids`."""
  local_ids = np.asarray(env.local_ids)
  sizes = snapshots.sizes(env)
  kind = Kind("checkpoints", lambda k: {"weights": ((int(sizes[k]),), env.dtype)})

  def outside(stepper, state, visit):
    peer, slot = pool.draws(env, hyper, visit.round)
    frozen = health.frozen(env, state.clients)
    current = snapshots.on_host(env, state.clients)
    own = {k: {"weights": flat} for k, flat in current.items() if k not in frozen}
    mail.leave(kind, visit.round, own)
    wanted = peer[local_ids]
    received = mail.newest(kind, {int(j) for j in wanted if j >= 0}, visit.round)
    born = np.zeros(len(local_ids), np.int32)
    fresh = np.zeros((len(local_ids), snapshots.length(env)), env.dtype)
    for row, j in enumerate(wanted):
      if j in received:
        born[row] = (received[j].round + 1) * hyper.refresh_every
        fresh[row, : sizes[j]] = received[j].arrays["weights"]
    arrived = np.where(np.isin(wanted, list(received)), wanted, -1).astype(np.int32)
    return pool.Arrival(slot[local_ids], fresh, arrived, born), mail.counts()

  return outside


def published(env: Env, predict_fn: PredictFn, hyper: Hyper, mail: Mail) -> Exchange:
  """Predictions by past snapshots of the public batches that come before the next refresh."""
  kind = predictions(env, predict_fn, hyper)
  shapes = kind.shapes(0)

  def receive(state, batch, now):
    return state._replace(server=now.args), ({},) * len(env.cohorts)

  def prepare(state, batch, now):
    received, valid = state.server
    share = env.training.public_batch // env.mesh.shape["data"]
    first = jax.lax.axis_index("data") * share
    part = lambda x: jax.lax.dynamic_slice_in_dim(x[:, now.visit_call], first, share, 1)
    sent = _message({name: part(x) for name, x in received.items()})
    return broadcast.draw_teachers(env, sent, valid[None], now, hyper.teachers)

  def empty():
    tables = {name: jnp.zeros((env.K, *shape), dtype) for name, (shape, dtype) in shapes.items()}
    return tables, jnp.zeros(env.K, bool)

  outside = swap_predictions(env, predict_fn, hyper, mail, kind)
  return Exchange(
    lambda clients: broadcast.first_past(hyper, env.own(clients)),
    prepare,
    functools.partial(broadcast.teacher_predictions, env),
    common=True,
    steps=hyper.refresh_every,
    args=lambda pos: env.graph.at(pos.batches),
    refresh=broadcast.keep_phase(env, hyper.pool_size),
    receive=Phase("hear", receive, None, 1, outside=outside),
    server=empty,
  )


def swap_predictions(
  env: Env, predict_fn: PredictFn, hyper: Hyper, mail: Mail, kind: Kind
) -> Outside:
  """Leaves own clients' predictions and takes the teachers'.

  The args are (arrays [K, ...] by name, bool[K]: whose message arrived).
  """
  teachers = np.flatnonzero(env.graph.union()[list(env.local_ids)].any(0)).tolist()
  predict = predict_phase(env, predict_fn, hyper)
  shapes = kind.shapes(0)

  def outside(stepper, state, visit):
    every = hyper.refresh_every
    coming = visit._replace(phase=predict, phase_start=visit.round * every, calls=every)
    by_call = stepper.outputs(state, coming, "predict")
    frozen = health.frozen(env, state.clients)
    by_cohort = jax.tree.map(lambda *xs: np.stack(xs, 1), *by_call)  # leaves [K_g, S_P, U, ...]
    own = {
      k: {name: x[i] for name, x in zip(shapes, jax.tree.leaves(sent), strict=True)}
      for cohort, sent in zip(env.cohorts, by_cohort, strict=True)
      for i, k in enumerate(cohort.ids)
      if k not in frozen and broadcast.has_past(hyper, coming.phase_start)
    }
    mail.leave(kind, visit.round, own)
    received = mail.of_round(kind, teachers, visit.round)
    tables = {name: np.zeros((env.K, *shape), dtype) for name, (shape, dtype) in shapes.items()}
    for j, message in received.items():
      for name, x in message.arrays.items():
        tables[name][j] = x
    return (tables, np.isin(np.arange(env.K), list(received))), mail.counts()

  return outside


def predict_phase(env: Env, predict_fn: PredictFn, hyper: Hyper) -> Phase:
  """A phase that does not change the state; its aux are the messages of past snapshots.

  It has the training phase's name, which keys the draws, so it sees the batches of that phase.
  """

  def step(state, batch, now):
    sent = broadcast.past_messages(env, predict_fn, hyper, state, batch, now)
    return state, whole_batch(sent)

  return Phase("train", step, Feed(public=env.training.public_batch, common=True), None)


def predictions(env: Env, predict_fn: PredictFn, hyper: Hyper) -> Kind:
  """The kind of message that holds a client's predictions of the batches of a round."""
  p, xi = broadcast.message_shapes(env, predict_fn, hyper.top_k)
  parts = {**p._asdict(), "xi": xi}
  shapes = {name: ((hyper.refresh_every, *x.shape), str(x.dtype)) for name, x in parts.items()}

  def check(arrays):
    if "index" in arrays:
      return largest(arrays["p"], arrays["index"], env.task.classes)
    return probabilities(arrays["p"])

  return Kind("predictions", lambda k: shapes, check)


def _message(parts):
  """(message, embeddings) of arrays by name, as `broadcast.message` returns them."""
  xi = parts["xi"]
  if "index" in parts:
    return messages.TopK(parts["p"], parts["index"]), xi
  return messages.Dense(parts["p"]), xi
