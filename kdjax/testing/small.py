"""Small experiments: synthetic images, tiny networks, a few steps, compiled in seconds."""

from typing import Any

import jax
import numpy as np

from kdjax import experiment
from kdjax.configs import common
from kdjax.data import dataset
from kdjax.data.sources import ExampleSet, Source
from kdjax.experiment import Experiment
from kdjax.plugins import find_method
from kdjax.testing.case import Case
from kdjax.training.stepper import Stepper
from kdjax.types import Shards, TrainState

CLASSES, IMAGE = 4, (6, 6, 1)
MLP = ("mlp", dict(hidden=(8,), activation="tanh"))
WIDE = ("mlp", dict(hidden=(10, 8), activation="relu"))
CNN = ("cnn", dict(widths=(4, 8)))
Clients = tuple[tuple[int, str, dict[str, Any]], ...]


def devices(count: int) -> None:
  """Makes JAX run on `count` CPU devices; for a conftest.py, before JAX's first use of a device."""
  jax.config.update("jax_platforms", "cpu")
  jax.config.update("jax_num_cpu_devices", count)


def config(
  case: Case,
  clients: Clients = ((4, *MLP),),
  steps: int = 8,
  norm: str = "none",
  dtype: str = "float64",
  **changes: Any,
) -> Any:
  """A small config of a case; `changes` replace keys, or entries of `algo` as algo_KEY."""
  c = common.base()
  c.clients = clients
  c.model = dict(norm=norm, dtype=dtype, project=0)
  c.algorithm, c.algo = case.method, dict(case.algo)
  c.steps, c.rounds = (0, case.rounds) if case.rounds else (steps, 0)
  c.graph.kind = case.graph
  c.batch = c.public_batch = 8
  c.source, c.source_info = "synthetic", dict(train=0, test=0, image=IMAGE, classes=CLASSES)
  c.optim = common.sgd(lr=0.1, clip=1.0)
  c.log_every, c.save_every = 2, 0
  c.evals.accuracy = dict(every=4, batch=16)
  for key, value in case.changes.items():
    c.update_from_flattened_dict({key: value})
  for key, value in changes.items():
    target, name = (c.algo, key[5:]) if key.startswith("algo_") else (c, key)
    setattr(target, name, value)
  case.adapt(c)
  return c


def mixed(case: Case, each: int = 2) -> Clients:
  """Two architectures of `each` clients; one if the method averages or copies weights."""
  if find_method(case.method).one_architecture or case.one_core:
    return ((2 * each, *MLP),)
  return ((each, *MLP), (each, *WIDE))


def images(n: int, seed: int) -> ExampleSet:
  """Labels i64[n] and images u8[n, h, w, c] whose brightness pattern depends on the label."""
  rng = np.random.default_rng(seed)
  label = rng.integers(CLASSES, size=n)
  pattern = np.random.default_rng(0).integers(200, size=(CLASSES, *IMAGE))
  noisy = pattern[label] + rng.integers(56, size=(n, *IMAGE))
  return ExampleSet(label, label, IMAGE, noisy.astype(np.uint8), None)


def data(
  K: int = 4,
  sizes: tuple[int, ...] = (20, 24, 30, 26),
  public: int = 24,
  R: int = 1,
  seed: int = 0,
) -> tuple[Source, Shards]:
  """(Source, Shards): the lists of K * R clients one after another, then the public set."""
  sizes = (tuple(sizes) * K)[:K] * R
  total = sum(sizes) + public
  source = Source("synthetic", images(total, seed), images(37, seed + 1), CLASSES)
  places = np.random.default_rng(seed).permutation(total)
  cuts = np.split(places, np.cumsum(sizes))
  counts = np.stack([np.bincount(source.train.labels[x], minlength=CLASSES) for x in cuts[:-1]])
  return source, Shards(tuple(cuts[:-1]), (cuts[-1],) * R, ((),) * (K * R), counts)


def build(
  c: Any,
  *,
  data_: tuple[Source, Shards] | None = None,
  identity: tuple[int, ...] | None = None,
  mesh: int = 1,
  local_map: str | None = None,
) -> Experiment:
  """An Experiment on the first `mesh` devices with a local map.

  Raises:
    RuntimeError: if there are fewer devices.
  """
  if len(jax.devices()) < mesh:
    hint = "call kdjax.testing.devices(8) in a conftest.py, before JAX is used"
    raise RuntimeError(f"{mesh} devices are needed, there are {len(jax.devices())}: {hint}")
  if local_map:
    c.mesh.map = local_map
  K = sum(n for n, *_ in c.clients)
  source, shards = data_ or data(K, R=c.replicas)
  return experiment.build(
    c,
    data=dataset.Data(source, source.train, shards),
    identity=identity,
    devices=jax.devices()[:mesh],
  )


def train(
  e: Experiment,
  state: TrainState | None = None,
  calls: int | None = None,
  stepper: Stepper | None = None,
) -> tuple[TrainState, Stepper]:
  """(state, the Stepper) after the whole run, or after `calls` calls.

  Later calls reuse the programs compiled for an experiment.
  """
  stepper = stepper or Stepper(e)
  state = stepper.init() if state is None else state
  end = e.visits[-1].start + e.visits[-1].calls if calls is None else calls
  for dispatch in stepper.dispatches(int(state.calls)):
    left = end - dispatch.visit.start - dispatch.first
    if left <= 0:
      break
    state, _ = stepper.run(state, dispatch._replace(calls=min(dispatch.calls, left)))
  return state, stepper


def by_client(e: Experiment, state: TrainState) -> list[tuple[Any, Any]]:
  """Every client's parameters and statistics, in client order, on the host."""
  out = {}
  for cohort, client in zip(e.env.cohorts, state.clients, strict=True):
    host = jax.device_get((client.params, client.model_state))
    for place, k in enumerate(cohort.ids):
      out[k] = jax.tree.map(lambda x, place=place: x[place], host)
  return [out[k] for k in sorted(out)]
