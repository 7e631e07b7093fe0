"""Consensus: clients distil from the mean of what all of them say, where that mean is sure.

In every step all K clients see the same public examples x. With z_j(x) the logits of client j's
main head in evaluation mode, before anybody's step,

  p(x) = 1/K sum_j softmax(z_j(x))                                     the consensus
  S    = {x: H(p(x)) < most_entropy}                                   where it is sure
  L_i  = CE(y, z_i) on private data + weight / |S| sum_{x in S} KL(p(x) || softmax(z_i(x)))

and no gradient flows into p. Nobody's paper: the smallest method in which clients teach each other.
"""

import dataclasses

import jax
import jax.numpy as jnp

from kdjax.algorithms.separate import cross_entropy, stateless
from kdjax.core import health, hostile, losses
from kdjax.core.clients import share, update
from kdjax.core.passes import eval_mode
from kdjax.types import Algorithm, ConfigError, Feed, Method, Phase


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hyper:
  """Hyper-parameters of the consensus."""

  most_entropy: float  # nats; it teaches where its entropy is below: 0 nowhere, over log C anywhere
  weight: float  # of the distillation


def agree(said, heard):
  """The mean f32[R, U, C] of said f32[R, K, U, C] over who is heard, bool[R, K, U]."""
  return jnp.where(heard[..., None], said, 0).sum(1) / jnp.maximum(heard.sum(1), 1)[..., None]


def make(env, hyper):
  """One phase: everyone says what it thinks of the public batch, then takes a step."""
  if not env.training.public_batch:
    raise ConfigError("public_batch", 0, "must be at least 1 for distillation")

  def objective(apply, params, data):  # of one client
    private, public, target, sure, count = data
    own, statistics = cross_entropy(apply, params, private)
    out, statistics = apply(params, public, statistics)  # BatchNorm sees both halves
    taught = share(losses.kl(target, out.logits[:, 0]), sure, count)
    loss, part = own + hyper.weight * taught, share(sure, public.mask, public.total)
    return loss, ({"loss": loss, "cross_entropy": own, "kl": taught, "sure": part}, statistics)

  def say(cohort, client, half):
    logits = lambda client, half: eval_mode(cohort.model, client, half.image).logits[:, 0]
    return jax.nn.softmax(env.map_clients(logits, client, half))

  def train(state, batch, now):
    told = hostile.as_sent(env, state.clients)  # the clients themselves, unless some lie
    said = env.gather(tuple(map(say, env.cohorts, told, batch.public)))  # [R*K, U, C]
    said = said.reshape(env.R, env.K, *said.shape[1:])  # a replica's mean is over its own clients
    heard = health.active_clients(env, state.clients).reshape(env.R, env.K, 1)
    heard &= health.distributions(said)
    mean = agree(said, heard)
    gate = heard.any(1) & (-losses.negative_entropy(mean) < hyper.most_entropy)  # [R, U]

    def of(g, private, public):
      replica = env.ids(g) // env.K
      sure = public.mask * gate[replica]
      count = jax.lax.psum(sure.sum(1), "data")  # |S|: devices may share the batch
      return private, public, mean[replica], sure, count

    data = tuple(map(of, range(len(env.cohorts)), batch.private, batch.public))
    clients, aux = update(env, state.clients, objective, data, now.lr)
    return state._replace(clients=clients), aux

  size = env.training.public_batch * env.task.classes * jnp.dtype(env.dtype).itemsize
  bytes_sent = lambda pos: {
    "predictions": env.clients * (env.K - 1) * size
  }  # everyone hears the others
  feed = Feed(private=env.training.batch, public=env.training.public_batch, common=True)
  phase = Phase("train", train, feed, env.training.steps, bytes_sent=bytes_sent)
  return Algorithm(stateless(env), (phase,), env.predict)


METHOD = Method(Hyper, make)
