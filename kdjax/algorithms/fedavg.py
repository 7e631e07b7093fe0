"""FedAvg: local steps, then everyone continues from the weighted average of all models.

McMahan, Moore, Ramage, Hampson, Aguera y Arcas: Communication-Efficient Learning of Deep Networks
from Decentralized Data, AISTATS 2017, https://arxiv.org/abs/1602.05629, Algorithm 1 with all
clients in every round. Between two averages everyone takes u local steps, as in Zhmoginov et al.,
CVPR 2023, Table 1, or E passes over its own data, as in McMahan et al.; who has done its passes
rests until the others have.

A round that `steps` cuts short ends with an average too, and what is tested within a round is the
average of the models as they are then: the server's model, had it asked for them.

The average covers parameters and BatchNorm statistics, weighted by n_i / n. Momentum buffers stay
with the client, or start anew after each average (`momentum='reset'`). All clients start from the
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

NOBODY = 1e-6  # less weight than any client's: rounding of a sum that is 0


def average(
  env: Env, tree: PyTree, weight: Float[np.ndarray, " clients"], heard: Bool[Array, " K_g"]
) -> PyTree:
  """Every client's weighted mean over those of its replica who are heard; its own if nobody is.

  Args:
    env: Env with one cohort.
    tree: leaves [K_g, ...].
    weight: f64[R*K], adding up to 1 in each replica.
    heard: bool[K_g], whose values count.

  Returns:
    A pytree of the same shapes.
  """
  replica, own = env.ids(0) // env.K, env.local_rows(0, weight)

  def add_up(x, on):
    def add(total, one):
      r, w, counts, value = one
      return total.at[r].add(jnp.where(counts, w.astype(x.dtype) * value, 0)), None

    # One client after the other: a replica's sum has the same bits whatever runs beside it.
    zero = jnp.zeros((env.R, *x.shape[1:]), x.dtype)
    total, _ = jax.lax.scan(add, zero, (replica, own, on, x))
    return jax.lax.psum(total, "client")[replica]

  lost = add_up(jnp.ones(heard.shape, env.dtype), ~heard)  # [K_g], the weight of the others

  def mean(x):
    left = jnp.expand_dims(1 - lost, range(1, x.ndim)).astype(x.dtype)
    return jnp.where(left > NOBODY, add_up(x, heard) / left, x)

  return jax.tree.map(mean, tree)


def meet(
  env: Env, clients: tuple[ClientState, ...], weight: Float[np.ndarray, " clients"]
) -> ClientState:
  """The clients with the average of all models that are heard: who fell silent stays as it is.

  Args:
    env: Env with one cohort.
    clients: of that cohort.
    weight: f64[R*K], adding up to 1 in each replica.
  """
  (c,), (told,) = clients, hostile.as_sent(env, clients)
  return _averaged(env, c, told, weight)


def _averaged(env, c, told, weight):
  """The clients c, those who are active with the average of what all of them told."""
  active, models = health.is_active(env, c.health), (told.params, told.model_state)
  params, statistics = average(env, models, weight, active & health.finite_clients(models))
  return jax.vmap(select)(active, c._replace(params=params, model_state=statistics), c)


def predict(env: Env, weight: Float[np.ndarray, " clients"]) -> Predict:
  """`Algorithm.predict` of the average of all models as they are: at a round's end, any of them.

  Within a round liars (`hostile`) are averaged as they train, not as they would have told.
  """

  def averaged(state, images):
    (c,) = state.clients
    return env.predict(state._replace(clients=(_averaged(env, c, c, weight),)), images)

  return averaged


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hyper:
  """Hyper-parameters of FedAvg."""

  local_steps: int = 0  # u, batches between two averages; or
  local_epochs: int = 0  # E, passes of everyone over its own data between two averages
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
    everybody = jnp.ones(env.ids(0).shape, bool)
    params, statistics = average(env, (c.params, c.model_state), first, everybody)
    return (c._replace(params=params, model_state=statistics),), ((),), ()

  def step(state, batch, now):
    c = meet(env, state.clients, weight)
    if hyper.momentum == "reset":
      anew = jax.vmap(env.cohorts[0].tx.init)(c.params)
      opt_state = jax.vmap(select)(health.is_active(env, c.health), anew, c.opt_state)
      c = c._replace(opt_state=opt_state)
    return state._replace(clients=(c,)), ({},)

  # Each round the server receives every model and every client receives the average.
  model = nbytes(env.snapshots()[0])
  bytes_sent = lambda pos: {"weights": 2 * env.clients * model}
  epochs, steps = hyper.local_epochs, hyper.local_steps or None
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
    steps: its calls in a round; None: epochs.
    rounds: of the run, the last perhaps cut short by `steps` of the config.
  """
  sizes = env.task.private_sizes
  calls = steps or feed.epochs * -(-int(sizes.max()) // feed.private)
  last = (env.training.steps or rounds * calls) - (rounds - 1) * calls
  taken = lambda n, calls: examples(feed, feed.private, n, calls)
  seen = [(rounds - 1) * taken(n, calls) + taken(n, last) for n in sizes]
  return client_flops(env, 3 * np.array(seen))


METHOD = Method(Hyper, make, one_architecture=True)
