"""The steps of FedGKT: edges learn from answers; servers learn from uploads and answer them."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from kdjax.algorithms.fedgkt import server as servers
from kdjax.algorithms.fedgkt import uploads
from kdjax.algorithms.fedgkt.arrivals import Turn
from kdjax.algorithms.fedgkt.hyper import Hyper
from kdjax.core import health, losses
from kdjax.core.clients import has_data, local_mean, share, update
from kdjax.core.env import Env
from kdjax.types import ClientState, Examples, Rows, Step, TrainState


class Server(NamedTuple):
  """The server of every replica; leaves [R, ...]."""

  network: ClientState
  plateau: optax.OptState  # of optax.contrib.reduce_on_plateau; `scale` multiplies the rate
  # f32[R, 4], over a round's answers: loss, cross entropy, distillation, number of examples.
  sums: jax.Array


METRICS = ("loss", "cross_entropy", "distillation")


def fresh_servers(
  env: Env, model: nn.Module, tx: optax.GradientTransformation, feature: jax.ShapeDtypeStruct
) -> Server:
  """The servers of step 0."""
  network = servers.init(env, model, tx, feature.shape)
  plateau = jax.vmap(optax.contrib.reduce_on_plateau().init)(network.params)
  return Server(network, plateau, jnp.zeros((env.R, 4), env.dtype))


class EdgeData(NamedTuple):
  """The data of one client's step."""

  half: Examples
  answer: jax.Array  # f32[B, C], the server's logits for these examples
  weight: jax.Array  # f32[], alpha once the server has answered, 0 before


def edge_step(env: Env, hyper: Hyper) -> Step:
  """`Phase.step` of the edge: CE, plus alpha KL(server || edge) once it has an answer (Eq. 7)."""
  weight = hyper.alpha if hyper.edge_distils else 0.0

  def objective(apply, params, d):
    out, model_state = apply(params, d.half)
    z = out.logits[:, 0]
    ce = local_mean(losses.cross_entropy(z, d.half.label), d.half)
    kd = local_mean(losses.tempered_kl(d.answer, z, hyper.temperature), d.half)
    loss = ce + d.weight * kd
    return loss, (dict(zip(METRICS, (loss, ce, kd), strict=True)), model_state)

  def step(state, batch, now):
    data = []
    for g, (half, memory) in enumerate(zip(batch.private, state.local, strict=True)):
      answer = uploads.answers(memory, uploads.slots(env, hyper.keyed, g, half, now))
      data.append(EdgeData(half, answer, weight * memory.answered))
    active = tuple(map(has_data, batch.private))
    clients, aux = update(env, state.clients, objective, tuple(data), now.lr, active)
    return state._replace(clients=clients), aux

  return step


def server_loss(hyper: Hyper) -> Callable[[jax.Array, dict], jax.Array]:
  """(logits f32[S, C], uploads) -> shares f32[3] of the loss (Eq. 6), its CE and its KD."""
  distillation, cross_entropy = (1.0, hyper.alpha) if hyper.server_distils else (0.0, 1.0)

  def loss(z, d):
    mean = functools.partial(share, mask=d["mask"], total=d["total"])
    ce = mean(losses.cross_entropy(z, d["label"]))
    kd = mean(losses.tempered_kl(d["logits"], z, hyper.temperature))
    return jnp.stack([distillation * kd + cross_entropy * ce, ce, kd])

  return loss


class Uploads(NamedTuple):
  """A batch of uploads; a device has its share of the S rows, [R, S / devices, ...]."""

  # feature, logits, label; mask and total f32[R] of the rows to train on
  data: dict[str, jax.Array]
  to_answer: dict[str, jax.Array]  # mask and total f32[R] of the rows that are answered
  answered_rows: Rows  # the rows that are answered, whole on every device


def collect(
  env: Env, hyper: Hyper, shape: tuple[int, ...], state: TrainState, rows: Rows, turn: Turn
) -> Uploads:
  """The uploads in a batch of rows; rows that are missing or of frozen clients are masked.

  Args:
    env: Env.
    hyper: Hyper.
    shape: of one example's feature.
    state: TrainState.
    rows: Rows.
    turn: the description of the call.
  """
  tables = tuple(m.held if hyper.trains_on == "all" else m.upload for m in state.local)
  rows = rows._replace(mask=rows.mask * health.active_clients(env, state.clients)[rows.owner])
  answered_rows = rows._replace(mask=rows.mask * turn.answer_mask)
  sent = servers.collect(env, tables, rows)
  uploaded = sent["label"] >= 0
  masks = [servers.part(env, x.mask) * uploaded for x in (rows, answered_rows)]
  totals = jax.lax.psum([mask.sum(1) for mask in masks], servers.AXES)
  to_train, to_answer = ({"mask": m, "total": n} for m, n in zip(masks, totals, strict=True))
  feature = sent["feature"].reshape(*sent["label"].shape, *shape)
  return Uploads(sent | {"feature": feature} | to_train, to_answer, answered_rows)


def server_calls(
  env: Env, hyper: Hyper, model: nn.Module, tx: optax.GradientTransformation
) -> tuple[Callable, Callable]:
  """(learn, answer): a server's update on a batch of uploads, or its answers alone.

  Each is (network, Uploads, lr f32[R], whether the call's answers are wanted bool[]) -> (network,
  the batch's losses in training mode f32[R, 3], the losses of the answers f32[R, 3], the answers
  f32[R, S / devices, C]). Answers that are not wanted are arbitrary.
  """
  loss = server_loss(hyper)

  def objective(apply, params, d):
    out, model_state = apply(params, d["feature"], d["mask"])
    z = out.logits[:, 0]
    scores = loss(z, d)
    return scores[0], ({"scores": scores}, model_state, z)

  def score(z, batch):
    return jax.lax.psum(jax.vmap(loss)(z, batch.data | batch.to_answer), servers.AXES)

  def learn(network, batch, lr, wanted):
    d = batch.data
    network, aux, z = servers.update(env, model, tx, network, objective, d, lr, d["total"] > 0)
    if hyper.answers == "apart":
      return network, aux["scores"], jnp.zeros_like(aux["scores"]), jnp.zeros_like(d["logits"])
    if hyper.answers == "after":
      again = functools.partial(servers.logits, env, model, network, d["feature"], d["mask"])
      z = jax.lax.cond(wanted, again, lambda: z)  # answers of earlier epochs are not used
    return network, aux["scores"], score(z, batch), z

  def answer(network, batch, lr, wanted):
    z = servers.logits(env, model, network, batch.data["feature"])
    scores = score(z, batch)
    return network, jnp.zeros_like(scores), scores, z

  return learn, answer


def server_step(
  env: Env,
  hyper: Hyper,
  model: nn.Module,
  tx: optax.GradientTransformation,
  shape: tuple[int, ...],
) -> Step:
  """`Phase.step` of the servers: an update on a batch of uploads, the answers to one, or both.

  Its aux are the batch's losses in training mode, or the mean losses of this round's answers so
  far; and the learning rate, which the plateau scales. `shape` is that of one example's feature.
  """
  learn, answer = server_calls(env, hyper, model, tx)
  watch = watcher(hyper)
  holds = hyper.trains_on == "all"

  def step(state, batch, now):
    turn = now.args
    old = state.server
    if holds:
      take_in = functools.partial(uploads.take_in, env, arrived=turn.arrived)
      local = jax.lax.cond(turn.arrived.any(), take_in, lambda local: local, state.local)
      state = state._replace(local=local)
    collected = collect(env, hyper, shape, state, batch.server, turn)
    lr = now.lr * old.plateau.scale
    arguments = old.network, collected, lr, turn.answers
    network, training_losses, answer_losses, z = jax.lax.cond(
      turn.train, lambda: learn(*arguments), lambda: answer(*arguments)
    )
    local = uploads.answer(env, state.local, collected.answered_rows, servers.whole(z))
    sums = summed(old.sums, answer_losses, collected.to_answer["total"], now.visit_call)
    means = sums[:, :3] / jnp.maximum(sums[:, 3:], 1)
    plateau = watch(old.plateau, means[:, 1], turn.last & (sums[:, 3] > 0))
    scores = jnp.where(turn.answers, means, training_losses)
    aux = dict(zip(METRICS, scores.T, strict=True)) | {"lr": lr}
    return state._replace(local=local, server=Server(network, plateau, sums)), aux

  return step


def summed(sums: jax.Array, losses: jax.Array, n: jax.Array, i: jax.Array) -> jax.Array:
  """`Server.sums` after call i of a round; `losses` are the means over its n f32[R] answers."""
  before = jnp.where(i == 0, 0, sums)
  after = before + jnp.concatenate([losses * n[:, None], n[:, None]], 1)
  return after.astype(sums.dtype)


def watcher(hyper: Hyper) -> Callable[[optax.OptState, jax.Array, jax.Array], optax.OptState]:
  """(plateaus, watched values f32[R], whether to update bool[R]) -> plateaus, leaves [R, ...]."""
  factor, patience = hyper.plateau["factor"], hyper.plateau["patience"]
  update = optax.contrib.reduce_on_plateau(factor, max(patience, 1)).update

  def watch(plateaus, values, due):
    new = jax.vmap(lambda s, v: update((), s, value=v)[1])(plateaus, values)
    return jax.tree.map(lambda n, o: jnp.where(due & (patience > 0), n, o), new, plateaus)

  return watch
