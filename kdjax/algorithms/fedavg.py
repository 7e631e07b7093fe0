"""FedAvg: local steps, then all clients continue from the weighted average of all models.

McMahan, Moore, Ramage, Hampson, Aguera y Arcas: Communication-Efficient Learning of Deep Networks
from Decentralized Data, AISTATS 2017, https://arxiv.org/abs/1602.05629, Algorithm 1 with all
clients in every round. Between two averages every client takes u local steps, as in Zhmoginov et
al., CVPR 2023, Table 1, or E passes over its own data, as in McMahan et al. A client that has
finished its passes rests until the others have.

A round that `steps` cuts short ends with an average too. Evaluations within a round test the
average of the current models: the model that the server would have if it collected them.

The average covers parameters and BatchNorm statistics, weighted by n_i / n. Momentum buffers stay
with the client, or are reset after each average (`momentum='reset'`). All clients start from the
weights of client 0 of their replica: the server's broadcast.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from kdjax.algorithms.separate import train_phase
from kdjax.core import health, hostile
from kdjax.core.arrays import Array
from kdjax.core.clients import select
from kdjax.core.costs import client_flops, nbytes
from kdjax.core.env import Env
from kdjax.core.ranges import at_least, one_of
from kdjax.data.streams import examples
from kdjax.types import (
  Algorithm,
  ClientState,
  ConfigError,
  Feed,
  Method,
  Phase,
  Predict,
  PyTree,
)

WEIGHT_TOLERANCE = 1e-6  # rounding of a sum of weights that is 0; less than any client's weight


def average(
  env: Env, tree: PyTree, weight: Float[np.ndarray, " clients"], active: Bool[Array, " K_g"]
) -> PyTree:
  """For each client the weighted mean over its replica's active clients.

  Args:
    env: Env with one cohort.
    tree: leaves [K_g, ...].
    weight: f64[R*K], adding up to 1 in each replica.
    active: bool[K_g], the clients whose values count.

  Returns:
    A pytree of the same shapes; each client's own value where no client of its replica is active.
  """
  replica = env.ids(0) // env.K
  own_weight = env.local_rows(0, weight)

  def add_up(x, included):
    def add(total, client):
      r, w, counts, value = client
      return total.at[r].add(jnp.where(counts, w.astype(x.dtype) * value, 0)), None

    # One client after the other: a replica's sum has the same bits whatever runs beside it.
    zero = jnp.zeros((env.R, *x.shape[1:]), x.dtype)
    total, _ = jax.lax.scan(add, zero, (replica, own_weight, included, x))
    return jax.lax.psum(total, "client")[replica]

  excluded_weight = add_up(jnp.ones(active.shape, env.dtype), ~active)  # [K_g]

  def mean(x):
    total_weight = jnp.expand_dims(1 - excluded_weight, range(1, x.ndim)).astype(x.dtype)
    return jnp.where(total_weight > WEIGHT_TOLERANCE, add_up(x, active) / total_weight, x)

  return jax.tree.map(mean, tree)


def meet(
  env: Env, clients: tuple[ClientState, ...], weight: Float[np.ndarray, " clients"]
) -> ClientState:
  """The clients with the average of all active clients' models; frozen clients keep their own.

  Args:
    env: Env with one cohort.
    clients: of that cohort.
    weight: f64[R*K], adding up to 1 in each replica.
  """
  (c,) = clients
  (sent,) = hostile.as_sent(env, clients)
  return _averaged(env, c, sent, weight)


def _averaged(env, c, sent, weight):
  """The clients c, the active ones with the average of the models that the active ones sent."""
  active = health.is_active(env, c.health)
  models = (sent.params, sent.model_state)
  params, statistics = average(env, models, weight, active & health.finite_clients(models))
  return jax.vmap(select)(active, c._replace(params=params, model_state=statistics), c)


def predict(env: Env, weight: Float[np.ndarray, " clients"]) -> Predict:
  """`Algorithm.predict` of the average of all current models; at a round's end all are equal to it.

  Within a round, hostile clients count with the models that they train, not with falsified ones.
  """

  def averaged(state, images):
    (c,) = state.clients
    return env.predict(state._replace(clients=(_averaged(env, c, c, weight),)), images)

  return averaged


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hyper:
  """Hyper-parameters of FedAvg."""

  local_steps: int = 0  # u, batches between two averages; or
  local_epochs: int = 0  # E, passes of every client over its own data between two averages
  momentum: str  # what an average does to the optimiser's state: keep or reset

  def __post_init__(self):
    """Raises ConfigError for invalid values."""
    at_least(0, local_steps=self.local_steps, local_epochs=self.local_epochs)
    if (self.local_steps > 0) == (self.local_epochs > 0):
      hint = f"exactly one of local_steps and local_epochs (= {self.local_epochs}) is above 0"
      raise ConfigError("algo.local_steps", self.local_steps, hint)
    one_of(("keep", "reset"), momentum=self.momentum)


def make(env: Env, hyper: Hyper) -> Algorithm:
  """FedAvg; see the file's docstring."""
  sizes = np.asarray(env.task.private_sizes, float).reshape(env.R, env.K)
  weight = (sizes / sizes.sum(1, keepdims=True)).ravel()
  names = np.asarray(env.population.identity)
  first = np.tile(names == names.min(), env.R).astype(float)

  def init(clients):
    (c,) = clients
    all_clients = jnp.ones(env.ids(0).shape, bool)
    params, statistics = average(env, (c.params, c.model_state), first, all_clients)
    return (c._replace(params=params, model_state=statistics),), ((),), ()

  def step(state, batch, now):
    c = meet(env, state.clients, weight)
    if hyper.momentum == "reset":
      fresh = jax.vmap(env.cohorts[0].tx.init)(c.params)
      opt_state = jax.vmap(select)(health.is_active(env, c.health), fresh, c.opt_state)
      c = c._replace(opt_state=opt_state)
    return state._replace(clients=(c,)), ({},)

  # Each round the server receives every model and every client receives the average.
  model = nbytes(env.snapshots()[0])
  bytes_sent = lambda pos: {"weights": 2 * env.clients * model}
  epochs = hyper.local_epochs
  steps = hyper.local_steps or None
  feed = Feed(private=env.training.batch, kind="epoch" if epochs else "stream", epochs=epochs or 1)
  return Algorithm(
    init,
    (
      train_phase(env, name="train", feed=feed, steps=steps),
      Phase("average", step, None, 1, bytes_sent=bytes_sent, closes=True),
    ),
    predict(env, weight),
    bytes_at_start=lambda: {"weights": env.clients * model},
    facts=lambda rounds: {"flops": flops(env, feed, steps, rounds)},
  )


def flops(env: Env, feed: Feed, steps: int | None, rounds: int) -> dict[str, float]:
  """`flops` of `Algorithm.facts`, as `costs.client_flops` counts them.

  Args:
    env: Env with one cohort.
    feed: of the training phase.
    steps: calls of the training phase per round; None: whole epochs.
    rounds: of the run; `steps` of the config may cut the last one short.
  """
  sizes = env.task.private_sizes
  calls = steps or feed.epochs * -(-int(sizes.max()) // feed.private)
  last = (env.training.steps or rounds * calls) - (rounds - 1) * calls
  taken = lambda n, calls: examples(feed, feed.private, n, calls)
  seen = [(rounds - 1) * taken(n, calls) + taken(n, last) for n in sizes]
  return client_flops(env, 3 * np.array(seen))


METHOD = Method(Hyper, make, one_architecture=True)
