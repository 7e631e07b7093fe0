"""The steps of FedGKT: edges learn from answers, servers learn from uploads, and answer."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from kdjax.algorithms.fedgkt import server as servers
from kdjax.algorithms.fedgkt import uploads
from kdjax.algorithms.fedgkt.hyper import Hyper
from kdjax.core import health, losses
from kdjax.core.clients import has_data, share, update
from kdjax.core.env import Env
from kdjax.types import ClientState, Step


class Server(NamedTuple):
  """The server of every replica; leaves [R, ...]."""

  network: ClientState
  plateau: optax.OptState  # of optax.contrib.reduce_on_plateau; `scale` multiplies the rate
  # f32[R, 4]: loss, cross entropy, distillation and examples, over a round's answers.
  sums: jax.Array


METRICS = ("loss", "cross_entropy", "distillation")


def fresh_servers(
  env: Env, model: nn.Module, tx: optax.GradientTransformation, feature: jax.ShapeDtypeStruct
) -> Server:
  """The servers of step 0."""
  network = servers.init(env, model, tx, feature.shape)
  plateau = jax.vmap(optax.contrib.reduce_on_plateau().init)(network.params)
  return Server(network, plateau, jnp.zeros((env.R, 4), env.dtype))


def edge_step(env: Env, hyper: Hyper) -> Step:
  """`Phase.step` of the edge: CE, and alpha KL(server || edge) once it has answered (Eq. 7)."""
  weight = hyper.alpha if hyper.edge_distils else 0.0

  def objective(apply, params, d):
    out, model_state = apply(params, d["half"])
    z, mean = out.logits[:, 0], functools.partial(share, mask=d["half"].mask, total=d["half"].total)
    ce = mean(losses.cross_entropy(z, d["half"].label))
    kd = mean(losses.tempered_kl(d["answer"], z, hyper.temperature))
    loss = ce + d["weight"] * kd
    return loss, (dict(zip(METRICS, (loss, ce, kd), strict=True)), model_state)

  def step(state, batch, now):
    data = []
    for g, (half, memory) in enumerate(zip(batch.private, state.local, strict=True)):
      answer = uploads.answers(memory, uploads.slots(env, hyper.keyed, g, half, now))
      data.append({"half": half, "answer": answer, "weight": weight * memory.answered})
    active = tuple(map(has_data, batch.private))
    clients, aux = update(env, state.clients, objective, tuple(data), now.lr, active)
    return state._replace(clients=clients), aux

  return step


def server_loss(hyper: Hyper) -> Callable[[jax.Array, dict], jax.Array]:
  """(logits f32[S, C], uploads) -> shares f32[3] of the loss (Eq. 6) and of its two parts."""
  distillation, cross_entropy = (1.0, hyper.alpha) if hyper.server_distils else (0.0, 1.0)

  def loss(z, d):
    mean = functools.partial(share, mask=d["mask"], total=d["total"])
    ce = mean(losses.cross_entropy(z, d["label"]))
    kd = mean(losses.tempered_kl(d["logits"], z, hyper.temperature))
    return jnp.stack([distillation * kd + cross_entropy * ce, ce, kd])

  return loss


def server_step(
  env: Env,
  hyper: Hyper,
  model: nn.Module,
  tx: optax.GradientTransformation,
  shape: tuple[int, ...],
) -> Step:
  """`Phase.step` of the servers: an update on a batch of uploads, the answers to one, or both.

  Its aux are the batch's losses in training mode, or the mean ones of this round's answers; and the
  learning rate, on which the plateau has a say. `shape` is that of one example's feature.
  """
  loss, watch, holds = server_loss(hyper), watcher(hyper), hyper.trains_on == "all"

  def objective(apply, params, d):
    out, model_state = apply(params, d["feature"], d["mask"])
    z = out.logits[:, 0]
    scores = loss(z, d)
    return scores[0], ({"scores": scores}, model_state, z)

  def step(state, batch, now):
    turn, rows, old, local = now.args, batch.server, state.server, state.local
    if holds:
      newer = functools.partial(uploads.take_in, env, arrived=turn.arrived)
      local = jax.lax.cond(turn.arrived.any(), newer, lambda local: local, local)
    rows = rows._replace(mask=rows.mask * health.heard_by_others(env, state.clients)[rows.owner])
    told = rows._replace(mask=rows.mask * turn.told)
    sent = servers.collect(env, tuple(m.held if holds else m.sent for m in local), rows)
    lr = now.lr * old.plateau.scale
    has_come = sent["label"] >= 0
    mine, mine_told = (servers.part(env, x.mask) * has_come for x in (rows, told))
    n, answered = jax.lax.psum((mine.sum(1), mine_told.sum(1)), servers.AXES)
    feature = sent["feature"].reshape(*sent["label"].shape, *shape)
    d = sent | {"feature": feature, "mask": mine, "total": n}

    def score(z):
      own = d | {"mask": mine_told, "total": answered}
      return jax.lax.psum(jax.vmap(loss)(z, own), servers.AXES)

    def learn():
      network, aux, z = servers.update(env, model, tx, old.network, objective, d, lr, n > 0)
      if hyper.answers == "apart":
        return network, aux["scores"], jnp.zeros_like(aux["scores"]), jnp.zeros_like(d["logits"])
      if hyper.answers == "after":
        z = servers.logits(env, model, network, d["feature"], d["mask"])
      return network, aux["scores"], score(z), z

    def answer():
      z = servers.logits(env, model, old.network, d["feature"])
      scores = score(z)
      return old.network, jnp.zeros_like(scores), scores, z

    network, learnt, said, z = jax.lax.cond(turn.train, learn, answer)
    local = uploads.answer(env, local, told, servers.whole(z))
    before = jnp.where(now.i == 0, 0, old.sums)
    sums = before + jnp.concatenate([said * answered[:, None], answered[:, None]], 1)
    sums = sums.astype(old.sums.dtype)
    means = sums[:, :3] / jnp.maximum(sums[:, 3:], 1)
    plateau = watch(old.plateau, means[:, 1], turn.last & (sums[:, 3] > 0))
    state = state._replace(local=local, server=Server(network, plateau, sums))
    aux = jnp.where(turn.answers, means, learnt)
    aux = dict(zip(METRICS, aux.T, strict=True)) | {"lr": lr}
    return state, aux | {"faults": network.health.faults}

  return step


def watcher(hyper: Hyper) -> Callable[[optax.OptState, jax.Array, jax.Array], optax.OptState]:
  """(plateaus, what they watch f32[R], whether it is due bool[R]) -> plateaus, leaves [R, ...]."""
  factor, patience = hyper.plateau["factor"], hyper.plateau["patience"]
  update = optax.contrib.reduce_on_plateau(factor, max(patience, 1)).update

  def watch(plateaus, values, due):
    new = jax.vmap(lambda s, v: update((), s, value=v)[1])(plateaus, values)
    return jax.tree.map(lambda n, o: jnp.where(due & (patience > 0), n, o), new, plateaus)

  return watch
