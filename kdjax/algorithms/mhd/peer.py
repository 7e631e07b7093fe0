"""MHD of clients that train apart: snapshots or predictions travel as messages, see kdjax/peers.

What is drawn, evaluated and learned is that of pool.py and broadcast.py; only how it comes differs.
Whatever has not come is left out: a slot of a pool stays as it is, a teacher is not valid.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.algorithms.mhd import broadcast, messages, pool
from kdjax.algorithms.mhd.exchange import Exchange, PredictFn
from kdjax.algorithms.mhd.hyper import Hyper
from kdjax.core import health, snapshots
from kdjax.core.env import Env
from kdjax.peers import Kind, Mail
from kdjax.peers.messages import largest, probabilities
from kdjax.types import Feed, Outside, Phase


def pools(env: Env, predict_fn: PredictFn, hyper: Hyper, mail: Mail) -> Exchange:
  """The rolling pool: at a refresh every client leaves a snapshot and takes a teacher's newest."""

  def obtain(state, now):
    here = jnp.asarray(env.local_ids)
    rows = [jnp.searchsorted(here, env.ids(g)) for g in range(len(env.cohorts))]
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
  """Own snapshots against their teachers'; args are an Arrival of `env.local_ids`."""
  here, sizes = np.asarray(env.local_ids), snapshots.sizes(env)
  kind = Kind("checkpoints", lambda k: {"weights": ((int(sizes[k]),), env.dtype)})

  def outside(stepper, state, visit):
    peer, slot = pool.draws(env, hyper, visit.round)
    quiet, present = health.frozen(env, state.clients), snapshots.on_host(env, state.clients)
    own = {k: {"weights": flat} for k, flat in present.items() if k not in quiet}
    mail.leave(kind, visit.round, own)
    wanted = peer[here]
    found = mail.newest(kind, {int(j) for j in wanted if j >= 0}, visit.round)
    born = np.zeros(len(here), np.int32)
    fresh = np.zeros((len(here), snapshots.length(env)), env.dtype)
    for row, j in enumerate(wanted):
      if j in found:
        born[row] = (found[j].round + 1) * hyper.refresh_every
        fresh[row, : sizes[j]] = found[j].arrays["weights"]
    come = np.where(np.isin(wanted, list(found)), wanted, -1).astype(np.int32)
    return pool.Arrival(slot[here], fresh, come, born), mail.counts()

  return outside


def published(env: Env, predict_fn: PredictFn, hyper: Hyper, mail: Mail) -> Exchange:
  """What past snapshots predict of the public batches that come before the next refresh."""
  kind = predictions(env, predict_fn, hyper)
  shapes = kind.shapes(0)

  def receive(state, batch, now):
    return state._replace(server=now.args), ({},) * len(env.cohorts)

  def prepare(state, batch, now):
    received, there = state.server
    share = env.training.public_batch // env.mesh.shape["data"]
    first = jax.lax.axis_index("data") * share
    part = lambda x: jax.lax.dynamic_slice_in_dim(x[:, now.visit_call], first, share, 1)
    sent = _message({name: part(x) for name, x in received.items()})
    return broadcast.draw_teachers(env, sent, there[None], now, hyper.teachers)

  def nothing():
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
    server=nothing,
  )


def swap_predictions(
  env: Env, predict_fn: PredictFn, hyper: Hyper, mail: Mail, kind: Kind
) -> Outside:
  """Own clients' predictions against others'; args are (arrays [K, ...] by name, whose came)."""
  teachers = np.flatnonzero(env.graph.union()[list(env.local_ids)].any(0)).tolist()
  predict, shapes = predict_phase(env, predict_fn, hyper), kind.shapes(0)

  def outside(stepper, state, visit):
    every = hyper.refresh_every
    coming = visit._replace(phase=predict, phase_start=visit.round * every, calls=every)
    made, quiet = stepper.outputs(state, coming, "predict"), health.frozen(env, state.clients)
    steps = jax.tree.map(lambda *xs: np.stack(xs, 1), *made)  # [K_g, S_P, U, ...] over cohorts
    own = {
      k: {name: x[i] for name, x in zip(shapes, jax.tree.leaves(sent), strict=True)}
      for cohort, sent in zip(env.cohorts, steps, strict=True)
      for i, k in enumerate(cohort.ids)
      if k not in quiet and broadcast.has_past(hyper, coming.phase_start)
    }
    mail.leave(kind, visit.round, own)
    found = mail.of_round(kind, teachers, visit.round)
    received = {name: np.zeros((env.K, *shape), dtype) for name, (shape, dtype) in shapes.items()}
    for j, message in found.items():
      for name, x in message.arrays.items():
        received[name][j] = x
    return (received, np.isin(np.arange(env.K), list(found))), mail.counts()

  return outside


def predict_phase(env: Env, predict_fn: PredictFn, hyper: Hyper) -> Phase:
  """Past snapshots' messages, as a phase that changes nothing and whose aux they are.

  It looks at the batches that the training phase will: draws are named by the phase.
  """
  whole = lambda x: jax.lax.all_gather(x, "data", axis=1, tiled=True)

  def step(state, batch, now):
    sent = broadcast.past_messages(env, predict_fn, hyper, state, batch, now)
    return state, jax.tree.map(whole, sent)

  return Phase("train", step, Feed(public=env.training.public_batch, common=True), None)


def predictions(env: Env, predict_fn: PredictFn, hyper: Hyper) -> Kind:
  """The kind of message that holds what a client predicts of the batches of a round."""
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
