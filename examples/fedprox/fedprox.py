"""FedProx: FedAvg whose local steps are drawn to where the round began.

Li, Sahu, Zaheer, Sanjabi, Talwalkar, Smith: Federated Optimization in Heterogeneous Networks,
MLSys 2020, https://arxiv.org/abs/1812.06127, with all clients in every round.
"""

import dataclasses

import jax
import jax.numpy as jnp

from kdjax.algorithms import fedavg
from kdjax.core import costs, losses
from kdjax.core.clients import share, update
from kdjax.types import Algorithm, Feed, Method, Phase


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hyper:
  """Hyper-parameters of FedProx."""

  mu: float  # strength of the pull; 0: FedAvg
  local_steps: int  # batches between two averages


def make(env, hyper):
  """A cycle of two phases; a client's local state is the weights at which the round began."""
  sizes = env.task.private_sizes.reshape(env.R, env.K)
  weight = (sizes / sizes.sum(1, keepdims=True)).ravel()  # n_i / n

  def objective(apply, params, data):  # of one client
    half, start = data
    out, statistics = apply(params, half)
    away = jax.tree.map(lambda p, s: jnp.sum((p - s) ** 2), params, start)
    pull = sum(jax.tree.leaves(away))
    each = losses.cross_entropy(out.logits[:, 0], half.label) + hyper.mu / 2 * pull
    loss = share(each, half.mask, half.total)
    return loss, ({"loss": loss}, statistics)

  def train(state, batch, now):
    data = tuple(zip(batch.private, state.local, strict=True))
    clients, aux = update(env, state.clients, objective, data, now.lr)
    return state._replace(clients=clients), aux

  def meet(state, batch, now):
    c = fedavg.meet(env, state.clients, weight)
    return state._replace(clients=(c,), local=(c.params,)), ({},)

  model = costs.nbytes(env.snapshots()[0])
  bytes_sent = lambda pos: {"weights": 2 * env.clients * model}
  feed = Feed(private=env.training.batch)
  cycle = (
    Phase("train", train, feed, hyper.local_steps),
    Phase("average", meet, None, 1, bytes_sent=bytes_sent, closes=True),
  )
  init = lambda clients: (clients, (clients[0].params,), ())
  return Algorithm(init, cycle, fedavg.predict(env, weight))


METHOD = Method(Hyper, make, one_architecture=True)
