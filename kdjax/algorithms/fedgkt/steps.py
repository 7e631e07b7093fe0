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


def fresh_servers(env: Env, model: nn.Module, feature: jax.ShapeDtypeStruct) -> Server:
  """The servers of step 0, with the first cohort's optimiser."""
  network = servers.init(env, model, env.cohorts[0].tx, feature.shape)
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


def server_step(env: Env, hyper: Hyper, model: nn.Module) -> Step:
  """`Phase.step` of the servers: an update on a batch of uploads, or the answers to one.

  Its aux are the batch's losses in training mode, or the mean ones of this round's answers.
  """
  loss, plateau = server_loss(hyper), hyper.plateau
  watch = optax.contrib.reduce_on_plateau(plateau["factor"], max(plateau["patience"], 1)).update

  def objective(apply, params, d):
    out, model_state = apply(params, d["feature"], d["mask"])
    scores = loss(out.logits[:, 0], d)
    return scores[0], ({"scores": scores}, model_state)

  def step(state, batch, now):
    (train, last), rows, old = now.args, batch.server, state.server
    rows = rows._replace(mask=rows.mask * health.speaks(env, state.clients)[rows.owner])
    sent = servers.collect(env, tuple(m.sent for m in state.local), rows)
    n = rows.mask.sum(1)
    d = sent | {"mask": servers.part(env, rows.mask) * (sent["label"] >= 0), "total": n}

    def learn():
      lr, tx = now.lr * old.plateau.scale, env.cohorts[0].tx
      network, aux = servers.update(env, model, tx, old.network, objective, d, lr, n > 0)
      return network, aux["scores"], jnp.zeros_like(d["logits"])

    def answer():
      z = servers.logits(env, model, old.network, d["feature"])
      return old.network, jax.lax.psum(jax.vmap(loss)(z, d), servers.AXES), z

    network, scores, z = jax.lax.cond(train, learn, answer)
    answered = rows._replace(mask=rows.mask * ~train)
    local = uploads.answer(env, state.local, answered, servers.whole(z))
    told = jnp.concatenate([scores * n[:, None], n[:, None]], 1)
    sums = jnp.where(now.i == 0, 0, old.sums) + jnp.where(train, 0, told).astype(old.sums.dtype)
    means = sums[:, :3] / jnp.maximum(sums[:, 3:], 1)
    watched = jax.vmap(lambda s, v: watch((), s, value=v)[1])(old.plateau, means[:, 1])
    due = last & (sums[:, 3] > 0) & (plateau["patience"] > 0)
    watched = jax.tree.map(lambda new, x: jnp.where(due, new, x), watched, old.plateau)
    state = state._replace(local=local, server=Server(network, watched, sums))
    aux = jnp.where(train, scores, means)
    return state, {**dict(zip(METRICS, aux.T, strict=True)), "faults": network.health.faults}

  return step
