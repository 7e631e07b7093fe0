"""The steps of a round of asynchronous edge learning, and the core's state (method.py)."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from kdjax.algorithms.async_edge import corruption, stopping, travel
from kdjax.algorithms.async_edge.hyper import Hyper
from kdjax.algorithms.separate import objective
from kdjax.core import clients, graph, health, losses, snapshots
from kdjax.core.arrays import Array
from kdjax.core.clients import has_data, local_mean, update
from kdjax.core.env import Env
from kdjax.core.passes import eval_mode
from kdjax.types import ClientState, Examples, Now, Objective, Step


class Core(NamedTuple):
  """The state of every replica's core beside its model; leaves [K_0, ...]."""

  memory: jax.Array  # f32[K_0, M, n, L], the models returned in round i, in slot i % M
  heard: jax.Array  # bool[K_0, M, n], whether each model is there and its client not frozen
  # f32[K_0, P, L], the core's weights before round i in slot i % P; () where nothing is cloned.
  past: jax.Array | tuple[()]
  correct: jax.Array  # f32[K_0], training examples classified correctly in this visit of `distil`
  seen: jax.Array  # f32[K_0], training examples in this visit of `distil`
  before: jax.Array  # f32[K_0], the core's training accuracy in the round before
  pace: stopping.Pace  # within this visit of `distil`
  # With `track`, else (): f32[K_0, L], the core before the last distillation, and f32[K_0, n, L],
  # the models returned in round 0.
  begun: jax.Array | tuple[()]
  first: jax.Array | tuple[()]


class EdgeArgs(NamedTuple):
  """`now.args` of a training step at an edge."""

  ends_pass: jax.Array  # bool[R], whether the step is the last of a pass over a replica's data
  holder: jax.Array  # i32[], the holder of the data
  noise: jax.Array  # f32[], the probability of a wrong label


def fresh(env: Env, g: int, keys: jax.Array) -> ClientState:
  """New models of cohort g; keys [K_g]."""
  cohort = env.cohorts[g]
  init = lambda key: clients.init_client(cohort.model, cohort.tx, key, env.task.image, env.dtype)
  return jax.vmap(init)(keys)


def first_state(env: Env, hyper: Hyper, P: int) -> tuple[tuple, dict]:
  """(local, server) of step 0; P as in `Core`, 0 where nothing is cloned."""
  M, n, L = hyper.memory, hyper.ensemble, snapshots.length(env)
  zeros = lambda *shape: jnp.zeros((*env.ids(0).shape, *shape), env.dtype)
  core = Core(
    memory=zeros(M, n, L),
    heard=zeros(M, n).astype(bool),
    past=zeros(P, L) if P else (),
    correct=zeros(),
    seen=zeros(),
    before=zeros(),
    pace=stopping.start(zeros()),
    begun=zeros(L) if hyper.track else (),
    first=zeros(n, L) if hyper.track else (),
  )
  edge = stopping.start(jnp.zeros(env.ids(len(env.cohorts) - 1).shape, env.dtype))
  local = (core, *((),) * (len(env.cohorts) - 2), edge)
  return local, {"holder": jnp.full((), -1, jnp.int32)}  # the holder the teacher learned from


def edge_step(env: Env, hyper: Hyper) -> Step:
  """`Phase.step` of supervised epochs at an edge, whose labels may be wrong.

  `now.args` are EdgeArgs.
  """
  last = len(env.cohorts) - 1

  def step(state, batch, now):
    half = batch.private[last]
    pace = state.local[last]
    if hyper.noisy:
      half = half._replace(label=wrong_labels(env, hyper, half, now))
    active = has_data(half) & ~pace.rests
    rest = (None,) * last
    clients, aux = update(env, state.clients, objective, (*rest, half), now.lr, (*rest, active))
    n = jnp.where(active, half.total, 0).astype(env.dtype)
    ends_pass = now.args.ends_pass[env.ids(last) // env.K]
    pace = stopping.after(
      pace, aux[last]["loss"], n, ends_pass, threshold=hyper.edge_threshold, tolerance=0
    )
    return state._replace(clients=clients, local=(*state.local[:last], pace)), aux

  return step


def wrong_labels(env: Env, hyper: Hyper, half: Examples, now: Now) -> jax.Array:
  """The labels i32[K_g, B] for the models at an edge, wrong with probability `now.args.noise`."""
  last = len(env.cohorts) - 1
  _, holder, p = now.args
  if hyper.corruption == "batch":
    keys = env.keys(last, "noise", now.phase_call)
    permuted = jax.vmap(corruption.permuted, (0, None, 0, 0))
    return permuted(keys, p, half.label, half.mask)
  keys = env.common_keys(last, "noise", holder)  # shared by all models at the edge
  place = env.ids(last) // env.K * env.population.holders + holder
  counts = jnp.asarray(env.task.label_counts)[place]
  relabelled = jax.vmap(corruption.relabelled, (0, None, 0, 0, 0))
  return relabelled(keys, p, half.label, half.row, counts)


def dispatch_step(env: Env, init: str) -> Step:
  """`Phase.step` that gives all models at the edge one start; `now.args` is the lag of a clone."""
  last = len(env.cohorts) - 1
  anyone = graph.complete(env.K)

  def step(state, batch, now):
    core, *others = state.local
    core_id = env.ids(last) // env.K * env.K
    if init == "scratch":
      models = fresh(env, last, env.common_keys(last, "scratch", now.round))
    elif init == "independent":
      trained = tuple(snapshots.pack(env, client) for client in state.clients[:2])
      (source,) = env.fetch(trained, (core_id + 1,), anyone)
      models = travel.unpack(env, last, source)
    else:
      P = core.past.shape[1]
      past = core.past.at[:, now.round % P].set(snapshots.pack(env, state.clients[0]))
      cloned = past[:, jnp.maximum(now.round - now.args, 0) % P]
      (source,) = env.fetch((cloned,), (core_id,), anyone)
      models = travel.unpack(env, last, source)
      core = core._replace(past=past)
    models = models._replace(health=state.clients[last].health)
    clients = (*state.clients[:last], models)
    local = (core, *others[:-1], stopping.start(others[-1].total))
    return state._replace(clients=clients, local=local), ({},) * len(clients)

  return step


def collect_step(env: Env, hyper: Hyper) -> Step:
  """`Phase.step` that brings the models back to the core; `now.args` is the edge."""
  n = hyper.ensemble

  def step(state, batch, now):
    core = state.local[0]
    first_id = env.ids(0) + env.K - n
    edge_ids = jnp.stack([first_id + i for i in range(n)], 1)  # [K_0, n]
    packed = tuple(snapshots.pack(env, client) for client in state.clients)
    returned = env.fetch(packed, tuple(edge_ids.T), graph.complete(env.K))
    models = jnp.stack(returned, 1)  # [K_0, n, L]
    present = health.active_clients(env, state.clients)[edge_ids]
    slot = now.round % hyper.memory
    zero = jnp.zeros_like(core.seen)
    core = core._replace(
      memory=core.memory.at[:, slot].set(models),
      heard=core.heard.at[:, slot].set(present),
      correct=zero,
      seen=zero,
      pace=stopping.start(zero),
    )
    if hyper.track:
      first = jnp.where(now.round == 0, models, core.first)
      core = core._replace(begun=packed[0], first=first)
    opt_state = jax.vmap(env.cohorts[0].tx.init)(state.clients[0].params)
    clients = (state.clients[0]._replace(opt_state=opt_state), *state.clients[1:])
    local = (core, *state.local[1:])
    server = {"holder": now.args}
    return state._replace(clients=clients, local=local, server=server), ({},) * len(clients)

  return step


class DistilData(NamedTuple):
  """The data of one core's step."""

  half: Examples
  teacher: jax.Array  # f32[M, B, C], see `memory_predictions`
  weight: jax.Array  # f32[M, B], of each teacher's term
  refused: jax.Array  # i32[B], predictions that were not finite


def memory_predictions(
  env: Env,
  hyper: Hyper,
  memory: Float[Array, "M n L"],
  present: Bool[Array, "M n"],
  half: Examples,
) -> tuple[Float[Array, "M B C"], Bool[Array, "M B"], Int[Array, " B"]]:
  """Tempered predictions of a batch by one core's memory, behind a stop-gradient.

  Args:
    env: Env; the models are of its last cohort.
    hyper: Hyper.
    memory: f32[M, n, L], snapshots.
    present: bool[M, n], which of them are there.
    half: B examples.

  Returns:
    (mean probabilities over each slot's models f32[M, B, C], whether the slot has a valid
    prediction bool[M, B], predictions that were not finite i32[B]).
  """
  model = env.cohorts[-1].model

  def predict(flat):
    client = snapshots.client(env, -1, flat)
    return jax.nn.softmax(eval_mode(model, client, half.image).logits[:, 0] / hyper.temperature)

  p = env.map_clients(predict, memory.reshape(-1, memory.shape[-1]))
  p = p.reshape(*memory.shape[:2], *p.shape[1:])  # [M, n, B, C]
  finite = health.finite_rows(p)
  valid = present[..., None] & finite
  count = jnp.maximum(valid.sum(1), 1).astype(p.dtype)
  mean = jnp.where(valid[..., None], p, 0).sum(1) / count[..., None]
  refused = jnp.sum(present[..., None] & ~finite, axis=(0, 1))
  return jax.lax.stop_gradient(mean), valid.any(1), refused


def distil_objective(hyper: Hyper) -> Objective:
  """Cross entropy plus t^2 times the divergence from every slot of the memory (Eq. 2)."""
  t = hyper.temperature
  student_t = 1.0 if hyper.literal else t

  def objective(apply, params, d):
    out, model_state = apply(params, d.half)
    z, label = out.logits[:, 0], d.half.label
    ce = local_mean(losses.cross_entropy(z, label), d.half)
    kd = t**2 * local_mean((d.weight * losses.kl(d.teacher, z / student_t)).sum(0), d.half)
    correct = local_mean((z.argmax(-1) == label).astype(z.dtype), d.half)
    aux = {"loss": ce + kd, "cross_entropy": ce, "distillation": kd, "train_accuracy": correct}
    aux["refused"] = jnp.sum(d.refused * d.half.mask)
    return ce + kd, (aux, model_state)

  return objective


def distil_step(env: Env, hyper: Hyper) -> Step:
  """`Phase.step` in which the core learns from its memory and its own data.

  `now.args` is whether the step is the last of a pass over a replica's data, bool[R].
  """
  predictions = functools.partial(memory_predictions, env, hyper)
  objective = distil_objective(hyper)

  def step(state, batch, now):
    core, half = state.local[0], batch.private[0]
    teacher, valid, refused = env.map_clients(predictions, core.memory, core.heard, half)
    weight = valid.astype(env.dtype)  # [K_0, M, B]
    if hyper.memory_reduce == "mean":
      weight /= jnp.maximum(weight.sum(1, keepdims=True), 1)
    data = DistilData(half, teacher, weight, refused)
    rest = (None,) * (len(env.cohorts) - 1)
    active = has_data(half) & ~core.pace.rests
    clients, aux = update(env, state.clients, objective, (data, *rest), now.lr, (active, *rest))
    n = jnp.where(active, half.total, 0).astype(env.dtype)
    core = core._replace(correct=core.correct + n * aux[0]["train_accuracy"], seen=core.seen + n)
    ends_pass = now.args[env.ids(0) // env.K]
    pace = stopping.after(
      core.pace, aux[0]["loss"], n, ends_pass, threshold=0, tolerance=hyper.distil_tolerance
    )
    core = core._replace(pace=pace)
    return state._replace(clients=clients, local=(core, *state.local[1:])), aux

  return step


def watch_step(flag_above: float) -> Step:
  """`Phase.step` that measures the rise of training accuracy since the round before."""

  def step(state, batch, now):
    core = state.local[0]
    accuracy = core.correct / jnp.maximum(core.seen, 1)
    jump = jnp.where(now.round == 0, 0, accuracy - core.before)
    flag = jump > flag_above
    core = core._replace(before=accuracy)
    aux = {"train_accuracy": accuracy, "jump": jump, "flag": flag.astype(accuracy.dtype)}
    local = (core, *state.local[1:])
    return state._replace(local=local), (aux, *({},) * (len(local) - 1))

  return step
