"""Teachers that predict on one common public batch, for everyone to hear.

K forward passes serve any number of students. `fresh` (Zhmoginov et al., CVPR 2023, Algorithm 1):
everyone's current predictions, computed once, before any update. `published`, a variant of the
pool: everyone predicts with one of its own past snapshots, drawn at random. In which mode is
`Hyper.speak_in`.
"""

import functools
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool

from kdjax.algorithms.mhd import messages
from kdjax.algorithms.mhd.exchange import Exchange, Speak, in_mode
from kdjax.algorithms.mhd.hyper import Hyper
from kdjax.core import costs, health, hostile
from kdjax.core.arrays import Array
from kdjax.core.env import Env
from kdjax.core.gradients import forward, recall
from kdjax.core.passes import eval_mode, train_mode
from kdjax.core.random import host_rng
from kdjax.types import Batch, ClientState, Examples, ModelOut, Now, Phase, PyTree, TrainState


class Heard(NamedTuple):
  """What a student knows about its public batch; leaves [K_g, ...] over clients."""

  message: Any  # of D teachers, leaves [D, U, m, ...]
  xi: Any  # f32[D, U, F]
  valid: Any  # bool[D], teachers that are there
  own: Any = None  # what `recall` needs of the student's own pass


class Past(NamedTuple):
  """A client's own past snapshots, of one cohort's clients."""

  snapshots: Any  # (params, model_state), leaves [K_g, P, ...]
  filled: Any  # bool[K_g, P]; nobody hears what a slot holds before it is


def fresh(env: Env, speak: Speak, hyper: Hyper, *, one_pass: bool) -> Exchange:
  """Algorithm 1: everyone's current predictions.

  Args:
    env: Env.
    speak: what a client says.
    hyper: `teachers`, D, `top_k` and `speak_in` count here.
    one_pass: whether a client says what its own pass in training mode finds, and learns from that
      very pass; otherwise it speaks in a second pass.
  """

  teachers, top_k = hyper.teachers, hyper.top_k

  def both(cohort, client, half):
    """A client's own pass in training mode, and what it says."""

    def outputs(params):
      out, statistics = train_mode(cohort.model, client.model_state, params, half)
      return out._replace(features={}), statistics

    own = forward(outputs, client.params)
    return own, say(speak, top_k, own.out)

  def ask(state, batch, now):
    if not one_pass:
      told = hostile.sent(env, state.clients)
      said = _each(env, _tell(speak, hyper), told, batch.public)
      return _listen(env, state.clients, said, now, teachers)
    passes = _each(env, both, state.clients, batch.public)
    heard = _listen(env, state.clients, tuple(said for _, said in passes), now, teachers)
    return tuple(h._replace(own=own) for h, (own, _) in zip(heard, passes, strict=True))

  def own(apply, params, statistics, heard, half):
    if not one_pass:
      return apply(params, half, statistics)
    return recall(heard.own, params), statistics

  return Exchange(
    lambda clients: ((),) * len(clients),
    ask,
    functools.partial(hear, env),
    own=own,
    common=True,
    steps=env.training.steps,
    args=lambda pos: env.graph.at(pos.count),
    sent=_sent(env, speak, hyper),
  )


def published(env: Env, speak: Speak, hyper: Hyper) -> Exchange:
  """Everyone predicts with a random one of its own P past snapshots.

  Every `hyper.refresh_every` training batches the present one replaces a random one of them.
  """

  def ask(state, batch, now):
    said = speak_of_past(env, speak, hyper, state, batch, now)
    return _listen(env, state.clients, said, now, hyper.teachers, has_past(hyper, now.count))

  return Exchange(
    functools.partial(first_past, hyper),
    ask,
    functools.partial(hear, env),
    common=True,
    steps=hyper.refresh_every,
    args=lambda pos: env.graph.at(pos.count),
    sent=_sent(env, speak, hyper),
    refresh=keep_phase(env, hyper.pool_size),
  )


def first_past(hyper: Hyper, clients: tuple[ClientState, ...]) -> tuple[Past, ...]:
  """Everyone's own first weights in all P slots, to be heard if `hyper.pool_start` says so."""

  def copied(client):
    copies = lambda x: jnp.repeat(x[:, None], hyper.pool_size, 1)
    slots = (client.health.since.shape[0], hyper.pool_size)
    known = jnp.full(slots, hyper.pool_start == "first")
    return Past(jax.tree.map(copies, (client.params, client.model_state)), known)

  return tuple(map(copied, clients))


def has_past(hyper: Hyper, count: jax.Array | int) -> jax.Array | bool:
  """Whether clients have a past snapshot to speak with after so many training batches."""
  return hyper.pool_start == "first" or count >= hyper.refresh_every


def speak_of_past(
  env: Env, speak: Speak, hyper: Hyper, state: TrainState, batch: Batch, now: Now
) -> tuple:
  """What a random past snapshot of every client says; over cohorts, leaves [K_g, U, ...]."""

  def past(cohort, client, key, own):
    slot = jax.random.categorical(key, jnp.where(own.filled, 0.0, -jnp.inf))
    params, model_state = jax.tree.map(lambda x: x[slot], own.snapshots)
    return client._replace(params=params, model_state=model_state)

  keys = tuple(env.keys(g, "snapshot", now.count) for g in range(len(env.cohorts)))
  speakers = _each(env, past, state.clients, keys, state.local)
  told = hostile.sent(env, speakers)
  return _each(env, _tell(speak, hyper), told, batch.public)


def keep_phase(env: Env, pool_size: int) -> Phase:
  """The phase in which everyone's present weights replace a random one of its past snapshots."""

  def slots(round):
    """The snapshot that every client replaces at a refresh; i32[R*K]."""
    pairs = itertools.product(env.population.seeds, env.population.identity)
    rngs = [host_rng(seed, "slot", round, name) for seed, name in pairs]
    return np.array([rng.integers(pool_size) for rng in rngs], np.int32)

  def refresh(state, batch, now):
    def replaced(g, client, past):
      here = jnp.arange(pool_size) == env.local_rows(g, now.args)[:, None]  # [K_g, P]
      put = lambda old, new: jnp.where(jnp.expand_dims(here, range(2, old.ndim)), new[:, None], old)
      snapshots = jax.tree.map(put, past.snapshots, (client.params, client.model_state))
      return Past(snapshots, past.filled | here)

    local = tuple(map(replaced, range(len(env.cohorts)), state.clients, state.local))
    return state._replace(local=local), ({},) * len(local)

  return Phase("refresh", refresh, None, 1, args=lambda pos: slots(pos.round))


def say(speak: Speak, top_k: int, out: ModelOut) -> tuple[PyTree, jax.Array]:
  """The message of one client whose model found `out`: (class probabilities, embeddings)."""
  p, xi = speak(out)
  return messages.encode(jax.lax.stop_gradient(p), top_k), jax.lax.stop_gradient(xi)


def _tell(speak, hyper):
  def tell(cohort, client, half):
    return say(speak, hyper.top_k, in_mode(hyper.speak_in, cohort.model, client, half))

  return tell


def _each(env, fn, *args):
  """`fn(cohort, ...)` for every client of every cohort; a tuple over cohorts."""
  return tuple(
    env.map_clients(functools.partial(fn, cohort), *own)
    for cohort, *own in zip(env.cohorts, *args, strict=True)
  )


def _listen(env, clients, said, now, teachers, there=True):
  """Heard, a tuple over cohorts: everyone draws D of its teachers among those who speak."""
  spoke = health.heard_by_others(env, clients).reshape(env.R, env.K) & there
  return draw_teachers(env, env.gather(said), spoke, now, teachers)


def draw_teachers(
  env: Env, said: PyTree, spoke: Bool[Array, "R K"], now: Now, teachers: int
) -> tuple[Heard, ...]:
  """Everyone draws D of its teachers, among those who spoke.

  Args:
    env: Env.
    said: what everyone said, leaves [R*K, U, ...].
    spoke: bool[R, K], whose part of it is there.
    now: Now; its `args` are the graph, bool[K, K].
    teachers: D.

  Returns:
    Over cohorts.
  """
  adjacency = now.args
  name = jnp.asarray(env.population.identity)

  def one(key, i):
    noise = jax.random.gumbel(key, (env.K,))[name]
    there = adjacency[i % env.K] & spoke[i // env.K]
    value, teacher = jax.lax.top_k(jnp.where(there, noise, -jnp.inf), teachers)
    heard = jax.tree.map(lambda x: x[teacher + i // env.K * env.K], said)
    return Heard(*heard, value > -jnp.inf)

  keys = [env.keys(g, "teachers", now.count) for g in range(len(env.cohorts))]
  return tuple(jax.vmap(one)(k, env.ids(g)) for g, k in enumerate(keys))


def hear(env: Env, heard: Heard, half: Examples | None) -> tuple:
  """What one client heard of its images, which it need not see: (p, xi, valid), see Exchange."""
  return messages.decode(heard.message, env.task.classes), heard.xi, heard.valid


def said_shapes(env: Env, speak: Speak, top_k: int) -> tuple[PyTree, jax.ShapeDtypeStruct]:
  """The shapes of what a client says of a public batch, in any mode: (message, embeddings)."""
  images = jax.ShapeDtypeStruct((env.training.public_batch, *env.task.image), env.dtype)
  one = lambda client, x: say(speak, top_k, eval_mode(env.cohorts[0].model, client, x))
  return jax.eval_shape(one, env.cohorts[0].template, images)


def _sent(env, speak, hyper):
  """position -> bytes by kind: everyone who has teachers that speak hears up to D messages."""

  @functools.cache
  def message_bytes():
    message, xi = said_shapes(env, speak, hyper.top_k)
    return {"predictions": costs.nbytes(message), "embeddings": costs.nbytes(xi)}

  def sent(pos):
    listening = int(np.minimum(env.graph.at(pos.count).sum(1), hyper.teachers).sum()) * env.R
    if hyper.exchange == "published" and not has_past(hyper, pos.count):
      return {}
    return {kind: listening * size for kind, size in message_bytes().items() if size}

  return sent
