"""What several test files build: a mesh, an Env without a config, and a model of one matrix."""

import dataclasses

import jax
import numpy as np
import optax
import pytest
from flax import linen as nn

from kdjax.core import graph, health
from kdjax.core.env import Env, Population, Task, Training
from kdjax.types import ClientState, Cohort, ModelOut

# The quickstart's clients with one small layer for its three: a third of what is to be compiled.
FIVE_SMALL = ((5, "mlp", {"hidden": (8,), "activation": "tanh"}),)


def usually(kept, values):
  """Values to parametrize over, of which all but those kept wait for `--thorough`.

  A value is kept by being in `kept`; of tuples, by their first entry.
  """
  out = []
  for value in values:
    key = value[0] if isinstance(value, tuple) else value
    marks = () if key in kept else pytest.mark.thorough
    out.append(pytest.param(*(value if isinstance(value, tuple) else (value,)), marks=marks))
  return out


class Linear(nn.Module):
  """Logits are `images @ w`; its only statistic counts the passes in training mode."""

  classes: int
  heads: int = 1

  @nn.compact
  def __call__(self, images, train, mask=None):
    x = images.reshape(len(images), -1)
    zeros = nn.initializers.zeros
    w = self.param("w", zeros, (x.shape[1], self.heads * self.classes), x.dtype)
    passes = self.variable("batch_stats", "passes", lambda: np.zeros((), x.dtype))
    if train:
      passes.value = passes.value + 1
    return ModelOut(x, (x @ w).reshape(len(x), self.heads, self.classes), {})


def make_mesh(client, data):
  auto = (jax.sharding.AxisType.Auto,) * 2
  devices = jax.devices()[: client * data]
  return jax.make_mesh((client, data), ("client", "data"), auto, devices=devices)


def make_env(
  mesh=(1, 1),
  cohorts=((0,),),
  *,
  seeds=(0,),
  identity=None,
  adjacency=None,
  local_map="vmap",
  tx=None,
  image=(1, 1, 2),
  classes=2,
  fault="reset",
):
  """An Env of linear models; `cohorts` lists each cohort's client numbers over all replicas."""
  clients = sum(map(len, cohorts))
  K = clients // len(seeds)
  model, tx = Linear(classes), tx or optax.identity()
  variables = model.init(jax.random.key(0), np.zeros((1, *image), np.float32), train=False)
  stats = {"batch_stats": variables["batch_stats"]}
  template = ClientState(variables["params"], stats, tx.init(variables["params"]), health.fresh())
  adjacency = graph.complete(K) if adjacency is None else adjacency
  made = tuple(Cohort("linear", model, tx, tuple(ids), template, image[-1]) for ids in cohorts)
  return Env(
    cohorts=made,
    ensemble=made,
    population=Population(K, K, seeds, tuple(range(K)) if identity is None else identity),
    graph=graph.Schedule(adjacency[None], 0),
    task=Task(
      image=image,
      classes=classes,
      private_sizes=np.full(clients, 10),
      label_counts=np.full((clients, classes), 10 // classes),
      public_sizes=np.full(len(seeds), 10),
      public_labels=False,
    ),
    training=Training(batch=4, public_batch=4, steps=100, lr=lambda count, total: 0.1, fault=fault),
    heads=("main",),
    dtype="float32",
    mesh=make_mesh(*mesh),
    local_map=local_map,
  )


def with_task(env, **changes):
  """The same Env with another Task."""
  return dataclasses.replace(env, task=dataclasses.replace(env.task, **changes))


def near(p, n, sigmas=4):
  """Half width of the interval that a frequency over n draws of probability p must fall into."""
  return sigmas * np.sqrt(p * (1 - p) / n)
