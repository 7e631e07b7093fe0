"""Exchanges in which all clients predict one common public batch for all students.

K forward passes serve any number of students. `fresh` (Zhmoginov et al., CVPR 2023, Algorithm 1):
all clients' current predictions, computed once before any update. `published`, a variant of the
pool: every client predicts with one of its own past snapshots, drawn at random. `Hyper.speak_in` is
the mode of these passes.
"""

import functools
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool

from kdjax.algorithms.mhd import messages
from kdjax.algorithms.mhd.exchange import Exchange, PredictFn, in_mode
from kdjax.algorithms.mhd.hyper import Hyper
from kdjax.core import costs, health, hostile
from kdjax.core.arrays import Array
from kdjax.core.clients import select_rows
from kdjax.core.env import Env
from kdjax.core.gradients import forward, recall
from kdjax.core.passes import eval_mode, train_mode
from kdjax.core.random import host_rng
from kdjax.types import Batch, ClientState, Examples, ModelOut, Now, Phase, PyTree, TrainState


class TeacherMessages(NamedTuple):
  """The messages of a student's teachers about its public batch; leaves [K_g, ...] over clients."""

  message: Any  # of D teachers, leaves [D, U, m, ...]
  xi: Any  # f32[D, U, F]
  valid: Any  # bool[D], whether each teacher exists
  student: Any = None  # the student's own pass, for `recall`


class Past(NamedTuple):
  """Past snapshots of the clients of one cohort, each client's own."""

  snapshots: Any  # (params, model_state), leaves [K_g, P, ...]
  filled: Any  # bool[K_g, P], slots that may predict


def fresh(env: Env, predict_fn: PredictFn, hyper: Hyper, *, one_pass: bool) -> Exchange:
  """The Exchange of Algorithm 1: all clients' current predictions.

  Args:
    env: Env.
    predict_fn: PredictFn.
    hyper: Hyper, of which `teachers` (D), `top_k` and `speak_in` matter.
    one_pass: whether a client's pass in training mode gives both its message and its gradient;
      otherwise the message comes from a second pass.
  """

  def pass_and_message(cohort, client, half):
    """A client's own pass in training mode, and its message."""

    def outputs(params):
      out, statistics = train_mode(cohort.model, client.model_state, params, half)
      return out._replace(features={}), statistics

    own = forward(outputs, client.params)
    return own, message(predict_fn, hyper.top_k, own.out)

  def prepare(state, batch, now):
    if not one_pass:
      models = hostile.as_sent(env, state.clients)
      sent = _each(env, _message_fn(predict_fn, hyper), models, batch.public)
      return _draw(env, state.clients, sent, now, hyper.teachers)
    passes = _each(env, pass_and_message, state.clients, batch.public)
    sent = tuple(messages for _, messages in passes)
    drawn = _draw(env, state.clients, sent, now, hyper.teachers)
    return tuple(d._replace(student=own) for d, (own, _) in zip(drawn, passes, strict=True))

  def student(apply, params, statistics, teachers, half):
    if not one_pass:
      return apply(params, half, statistics)
    return recall(teachers.student, params), statistics

  return Exchange(
    lambda clients: ((),) * len(clients),
    prepare,
    functools.partial(teacher_predictions, env),
    student_pass=student,
    common=True,
    steps=env.training.steps,
    args=lambda pos: env.graph.at(pos.batches),
    bytes_sent=_bytes(env, predict_fn, hyper),
  )


def published(env: Env, predict_fn: PredictFn, hyper: Hyper) -> Exchange:
  """The Exchange in which every client predicts with a random one of its own P past snapshots.

  Every `hyper.refresh_every` training batches its current weights replace a random one of them.
  """

  def prepare(state, batch, now):
    sent = past_messages(env, predict_fn, hyper, state, batch, now)
    return _draw(env, state.clients, sent, now, hyper.teachers, has_past(hyper, now.phase_call))

  return Exchange(
    functools.partial(first_past, hyper),
    prepare,
    functools.partial(teacher_predictions, env),
    common=True,
    steps=hyper.refresh_every,
    args=lambda pos: env.graph.at(pos.batches),
    bytes_sent=_bytes(env, predict_fn, hyper),
    refresh=keep_phase(env, hyper.pool_size),
  )


def first_past(hyper: Hyper, clients: tuple[ClientState, ...]) -> tuple[Past, ...]:
  """Every client's own first weights in all P slots; they may predict with pool_start='first'."""

  def copied(client):
    copies = lambda x: jnp.repeat(x[:, None], hyper.pool_size, 1)
    slots = (client.health.since.shape[0], hyper.pool_size)
    filled = jnp.full(slots, hyper.pool_start == "first")
    return Past(jax.tree.map(copies, (client.params, client.model_state)), filled)

  return tuple(map(copied, clients))


def has_past(hyper: Hyper, count: jax.Array | int) -> jax.Array | bool:
  """Whether clients have a past snapshot to predict with after `count` training batches."""
  return hyper.pool_start == "first" or count >= hyper.refresh_every


def past_messages(
  env: Env, predict_fn: PredictFn, hyper: Hyper, state: TrainState, batch: Batch, now: Now
) -> tuple:
  """The message of a random past snapshot of every client; over cohorts, leaves [K_g, U, ...]."""

  def draw_past(cohort, client, key, past):
    slot = jax.random.categorical(key, jnp.where(past.filled, 0.0, -jnp.inf))
    params, model_state = jax.tree.map(lambda x: x[slot], past.snapshots)
    return client._replace(params=params, model_state=model_state)

  keys = tuple(env.keys(g, "snapshot", now.phase_call) for g in range(len(env.cohorts)))
  drawn = hostile.as_sent(env, _each(env, draw_past, state.clients, keys, state.local))
  return _each(env, _message_fn(predict_fn, hyper), drawn, batch.public)


def keep_phase(env: Env, pool_size: int) -> Phase:
  """The phase in which each client's current weights replace a random one of its past snapshots."""

  def slots(round):
    """The slot that every client replaces at a refresh; i32[R*K]."""
    pairs = itertools.product(env.population.seeds, env.population.identity)
    rngs = [host_rng(seed, "slot", round, name) for seed, name in pairs]
    return np.array([rng.integers(pool_size) for rng in rngs], np.int32)

  def refresh(state, batch, now):
    def replaced(g, client, past):
      slot = jnp.arange(pool_size) == env.local_rows(g, now.args)[:, None]  # [K_g, P]
      current = jax.tree.map(lambda x: x[:, None], (client.params, client.model_state))
      return Past(select_rows(slot, current, past.snapshots), past.filled | slot)

    local = tuple(map(replaced, range(len(env.cohorts)), state.clients, state.local))
    return state._replace(local=local), ({},) * len(local)

  return Phase("refresh", refresh, None, 1, args=lambda pos: slots(pos.round))


def message(predict_fn: PredictFn, top_k: int, out: ModelOut) -> tuple[PyTree, jax.Array]:
  """The message a client sends, from its model's output `out`: (probabilities, embeddings)."""
  p, xi = predict_fn(out)
  return messages.encode(jax.lax.stop_gradient(p), top_k), jax.lax.stop_gradient(xi)


def _message_fn(predict_fn, hyper):
  """(cohort, client, half) -> `message`, by a pass without a gradient."""

  def predict(cohort, client, half):
    return message(predict_fn, hyper.top_k, in_mode(hyper.speak_in, cohort.model, client, half))

  return predict


def _each(env, fn, *args):
  """`fn(cohort, ...)` for every client of every cohort; a tuple over cohorts."""
  return tuple(
    env.map_clients(functools.partial(fn, cohort), *own)
    for cohort, *own in zip(env.cohorts, *args, strict=True)
  )


def _draw(env, clients, sent, now, teachers, has_message=True):
  """`draw_teachers` among the active clients, of messages over cohorts."""
  valid = health.active_clients(env, clients).reshape(env.R, env.K) & has_message
  return draw_teachers(env, env.gather(sent), valid, now, teachers)


def draw_teachers(
  env: Env, sent: PyTree, valid: Bool[Array, "R K"], now: Now, teachers: int
) -> tuple[TeacherMessages, ...]:
  """Draws D teachers for every client, among its teachers with a message.

  Args:
    env: Env.
    sent: all clients' messages, leaves [R*K, U, ...].
    valid: bool[R, K], the clients with a message.
    now: Now; its `args` are the graph, bool[K, K].
    teachers: D.

  Returns:
    Over cohorts.
  """
  adjacency = now.args
  name = jnp.asarray(env.population.identity)

  def draw(key, i):
    noise = jax.random.gumbel(key, (env.K,))[name]
    candidates = adjacency[i % env.K] & valid[i // env.K]
    value, teacher = jax.lax.top_k(jnp.where(candidates, noise, -jnp.inf), teachers)
    drawn = jax.tree.map(lambda x: x[teacher + i // env.K * env.K], sent)
    return TeacherMessages(*drawn, value > -jnp.inf)

  keys = [env.keys(g, "teachers", now.phase_call) for g in range(len(env.cohorts))]
  return tuple(jax.vmap(draw)(k, env.ids(g)) for g, k in enumerate(keys))


def teacher_predictions(env: Env, teachers: TeacherMessages, half: Examples | None) -> tuple:
  """Decodes the messages of one client's teachers: (p, xi, valid); `half` is not used."""
  return messages.decode(teachers.message, env.task.classes), teachers.xi, teachers.valid


def message_shapes(
  env: Env, predict_fn: PredictFn, top_k: int
) -> tuple[PyTree, jax.ShapeDtypeStruct]:
  """The shapes of a client's `message` about a public batch, equal in every mode."""
  images = jax.ShapeDtypeStruct((env.training.public_batch, *env.task.image), env.dtype)
  of_client = lambda client, x: message(
    predict_fn, top_k, eval_mode(env.cohorts[0].model, client, x)
  )
  return jax.eval_shape(of_client, env.cohorts[0].template, images)


def _bytes(env, predict_fn, hyper):
  """position -> bytes by kind: every client receives up to D messages of its teachers."""

  @functools.cache
  def message_bytes():
    p, xi = message_shapes(env, predict_fn, hyper.top_k)
    return {"predictions": costs.nbytes(p), "embeddings": costs.nbytes(xi)}

  def bytes_sent(pos):
    received = int(np.minimum(env.graph.at(pos.batches).sum(1), hyper.teachers).sum()) * env.R
    if hyper.exchange == "published" and not has_past(hyper, pos.phase_call):
      return {}
    return {kind: received * size for kind, size in message_bytes().items() if size}

  return bytes_sent
