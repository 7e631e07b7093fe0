"""MHD of clients that train apart: snapshots or predictions travel as messages, see kdjax/peers.

What is drawn, evaluated and learned is that of pool.py and broadcast.py; only how it comes differs.
Whatever has not come is left out: a slot of a pool stays as it is, a teacher is not valid.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.algorithms.mhd import broadcast, messages, pool
from kdjax.algorithms.mhd.exchange import Exchange, Speak
from kdjax.algorithms.mhd.hyper import Hyper
from kdjax.core import health, snapshots
from kdjax.core.env import Env
from kdjax.peers import Kind, Mail
from kdjax.peers.messages import largest, probabilities
from kdjax.types import Feed, Outside, Phase


def pools(env: Env, speak: Speak, hyper: Hyper, mail: Mail) -> Exchange:
  """The rolling pool: at a refresh every client leaves a snapshot and takes a teacher's newest."""

  def obtain(state, now):
    here = jnp.asarray(env.here)
    rows = [jnp.searchsorted(here, env.ids(g)) for g in range(len(env.cohorts))]
    return tuple(pool.Arrival(*(x[r] for x in now.args)) for r in rows)

  outside = swap_snapshots(env, hyper, mail)
  refresh = Phase("refresh", pool.refresh_step(obtain), None, 1, outside=outside)
  return Exchange(
    functools.partial(pool.first_pools, env, hyper, env.of_all),
    functools.partial(pool.ask, env, hyper.teachers),
    functools.partial(pool.hear, env, speak, hyper.speak_in),
    common=False,
    steps=hyper.refresh_every,
    refresh=refresh._replace(publish=hyper.publish),
  )


def swap_snapshots(env: Env, hyper: Hyper, mail: Mail) -> Outside:
  """Own snapshots against their teachers'; args are an Arrival of the clients of `env.here`."""
  here, sizes = np.asarray(env.here), snapshots.sizes(env)
  kind = Kind("checkpoints", lambda k: {"weights": ((int(sizes[k]),), env.dtype)})

  def outside(stepper, state, visit):
    peer, slot = pool.draws(env, hyper, visit.round)
    quiet, told = health.silent(env, state.clients), snapshots.on_host(env, state.clients)
    own = {k: {"weights": flat} for k, flat in told.items() if k not in quiet}
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


def published(env: Env, speak: Speak, hyper: Hyper, mail: Mail) -> Exchange:
  """What past snapshots say of the public batches that come before the next refresh."""
  kind = predictions(env, speak, hyper)
  shapes = kind.shapes(0)

  def hear_step(state, batch, now):
    return state._replace(server=now.args), ({},) * len(env.cohorts)

  def ask(state, batch, now):
    heard, spoke = state.server
    share = env.training.public_batch // env.mesh.shape["data"]
    first = jax.lax.axis_index("data") * share
    part = lambda x: jax.lax.dynamic_slice_in_dim(x[:, now.i], first, share, 1)
    said = _message({name: part(x) for name, x in heard.items()})
    return broadcast.draw_teachers(env, said, spoke[None], now, hyper.teachers)

  def nothing():
    tables = {name: jnp.zeros((env.K, *shape), dtype) for name, (shape, dtype) in shapes.items()}
    return tables, jnp.zeros(env.K, bool)

  outside = swap_predictions(env, speak, hyper, mail, kind)
  return Exchange(
    lambda clients: broadcast.first_past(hyper, env.own(clients)),
    ask,
    functools.partial(broadcast.hear, env),
    common=True,
    steps=hyper.refresh_every,
    args=lambda pos: env.graph.at(pos.count),
    refresh=broadcast.keep_phase(env, hyper.pool_size),
    hear_phase=Phase("hear", hear_step, None, 1, outside=outside),
    server=nothing,
  )


def swap_predictions(env: Env, speak: Speak, hyper: Hyper, mail: Mail, kind: Kind) -> Outside:
  """What own clients say for what the others do; args are (arrays [K, ...] by name, who spoke)."""
  teachers = np.flatnonzero(env.graph.union()[list(env.here)].any(0)).tolist()
  tell, shapes = tell_phase(env, speak, hyper), kind.shapes(0)

  def outside(stepper, state, visit):
    every = hyper.refresh_every
    coming = visit._replace(phase=tell, count=visit.round * every, n=every)
    told, quiet = stepper.told(state, coming, "tell"), health.silent(env, state.clients)
    steps = jax.tree.map(lambda *xs: np.stack(xs, 1), *told)  # [K_g, S_P, U, ...] over cohorts
    own = {
      k: {name: x[i] for name, x in zip(shapes, jax.tree.leaves(said), strict=True)}
      for cohort, said in zip(env.cohorts, steps, strict=True)
      for i, k in enumerate(cohort.ids)
      if k not in quiet and broadcast.has_past(hyper, coming.count)
    }
    mail.leave(kind, visit.round, own)
    found = mail.of_round(kind, teachers, visit.round)
    heard = {name: np.zeros((env.K, *shape), dtype) for name, (shape, dtype) in shapes.items()}
    for j, message in found.items():
      for name, x in message.arrays.items():
        heard[name][j] = x
    return (heard, np.isin(np.arange(env.K), list(found))), mail.counts()

  return outside


def tell_phase(env: Env, speak: Speak, hyper: Hyper) -> Phase:
  """What past snapshots say, as a phase that changes nothing and whose aux is what was said.

  It looks at the batches that the training phase will: draws are named by the phase.
  """
  whole = lambda x: jax.lax.all_gather(x, "data", axis=1, tiled=True)

  def step(state, batch, now):
    said = broadcast.speak_of_past(env, speak, hyper, state, batch, now)
    return state, jax.tree.map(whole, said)

  return Phase("train", step, Feed(public=env.training.public_batch, common=True), None)


def predictions(env: Env, speak: Speak, hyper: Hyper) -> Kind:
  """The kind of message that holds what a client says of the batches of a round."""
  message, xi = broadcast.said_shapes(env, speak, hyper.top_k)
  parts = {**message._asdict(), "xi": xi}
  shapes = {name: ((hyper.refresh_every, *x.shape), str(x.dtype)) for name, x in parts.items()}

  def check(arrays):
    if "index" in arrays:
      return largest(arrays["p"], arrays["index"], env.task.classes)
    return probabilities(arrays["p"])

  return Kind("predictions", lambda k: shapes, check)


def _message(parts):
  """(message, embeddings) of arrays by name, as `broadcast.say` returns them."""
  xi = parts["xi"]
  if "index" in parts:
    return messages.TopK(parts["p"], parts["index"]), xi
  return messages.Dense(parts["p"]), xi
