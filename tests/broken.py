"""Methods with one mistake each: what the property kit must find, and say."""

import dataclasses

import jax
import jax.numpy as jnp

from kdjax.core import losses
from kdjax.core.clients import update
from kdjax.types import Algorithm, Feed, Method, Phase


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hyper:
  """None."""


def supervised(env, objective, *, step=None, bytes_sent=lambda pos: {}, **phase):
  """Separate training with another objective, or something after each step."""

  def train(state, batch, now):
    clients, aux = update(env, state.clients, objective, batch.private, now.lr)
    state = state._replace(clients=clients)
    return (step(state, now) if step else state), aux

  feed = Feed(private=env.training.batch)
  one = Phase("train", train, feed, env.training.steps, bytes_sent=bytes_sent, **phase)
  return Algorithm(lambda c: (c, ((),) * len(c), ()), (one,), env.predict)


def mean_of_shares(apply, params, half):
  """A local mean: counts once for every device that shares the batch."""
  out, statistics = apply(params, half)
  loss = losses.cross_entropy(out.logits[:, 0], half.label).mean()
  return loss, ({"loss": loss}, statistics)


def good(apply, params, half):
  out, statistics = apply(params, half)
  loss = jnp.sum(losses.cross_entropy(out.logits[:, 0], half.label) * half.mask) / half.total
  return loss, ({"loss": loss}, statistics)


def to_the_mean(env, state, within_replica):
  """Everyone moves a little to the mean of all: of its replica, or of all replicas."""

  def move(client, k):
    def mix(x):
      everyone = jax.lax.all_gather(x, "client", tiled=True)
      whole = everyone.reshape(env.R, -1, *x.shape[1:])
      mean = (
        whole.mean(1)[k // env.K] if within_replica else jnp.broadcast_to(everyone.mean(0), x.shape)
      )
      return 0.9 * x + 0.1 * mean

    return client._replace(params=jax.tree.map(mix, client.params))

  clients = tuple(move(c, env.ids(g)) for g, c in enumerate(state.clients))
  return state._replace(clients=clients)


def noisy(env, state, now):
  """Noise keyed by a client's place, not by its name."""

  def shake(g, client):
    keys = jax.vmap(lambda k: jax.random.fold_in(jax.random.key(0), k))(env.ids(g))
    add = lambda x: x + 0.01 * jax.vmap(lambda k: jax.random.normal(k, x.shape[1:], x.dtype))(keys)
    return client._replace(params=jax.tree.map(add, client.params))

  return state._replace(clients=tuple(shake(g, c) for g, c in enumerate(state.clients)))


def averaged(state, now):
  """Unpacks one cohort, as a method does that averages weights."""
  (clients,) = state.clients
  return state._replace(clients=(clients,))


LOCAL_MEAN = Method(Hyper, lambda env, hyper: supervised(env, mean_of_shares))
LOCAL_MEAN_ALIKE = LOCAL_MEAN._replace(one_architecture=True)
NO_GRAPH_DECLARED = Method(
  Hyper, lambda env, hyper: supervised(env, good)._replace(uses_graph=True)
)
UNDECLARED_AVERAGE = Method(Hyper, lambda env, hyper: supervised(env, good, step=averaged))
GATHERS = Method(
  Hyper,
  lambda env, hyper: supervised(env, good, step=lambda s, now: to_the_mean(env, s, True)),
  one_architecture=True,
)
ACROSS = Method(
  Hyper,
  lambda env, hyper: supervised(env, good, step=lambda s, now: to_the_mean(env, s, False)),
  one_architecture=True,
)
BY_PLACE = Method(
  Hyper, lambda env, hyper: supervised(env, good, step=lambda s, now: noisy(env, s, now))
)
COUNTS = Method(
  Hyper, lambda env, hyper: supervised(env, good, bytes_sent=lambda pos: {"weights": 8})
)
NO_RATE = Method(Hyper, lambda env, hyper: supervised(env, good, lr=lambda pos: 0.0))
