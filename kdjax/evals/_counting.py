"""Passes over test images that add up counts of single batches."""

import functools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jax.sharding import PartitionSpec as P

from kdjax.core import hosts
from kdjax.core.env import STATE, sharded
from kdjax.training import contract
from kdjax.types import ConfigError, PyTree

if TYPE_CHECKING:
  from kdjax.data.example_set import ExampleSet
  from kdjax.experiment import Experiment


SPECS = (P("data"), P("data"), P("data"))  # of images, labels and mask


def over(
  experiment: "Experiment", name: str, batch: int, count: Callable[..., PyTree]
) -> Callable[..., PyTree]:
  """A function that counts over images; examples of a partial last batch count like all others.

  Args:
    experiment: Experiment.
    name: the evaluator's name, for the error.
    batch: images per pass; a multiple of the mesh's `data` axis.
    count: (the method's predictions, label i32[N], mask f32[N]) -> counts of one device's share of
      a batch, a pytree of f32, equal on all devices of the `client` axis.

  Returns:
    (state, images: ExampleSet, places: i64[n] among them) -> the pytree of sums, i64.

  Raises:
    ConfigError: for an invalid batch size.
  """
  check_batch(experiment, name, batch)
  step = program(experiment, count)
  place = functools.partial(hosts.place, experiment.env.mesh, SPECS)

  def run(state, images, places):
    sums = None
    for arrays in batches(experiment, images, places, batch):
      part = jax.device_get(step(state, *place(arrays)))
      part = jax.tree.map(lambda x: np.rint(x).astype(np.int64), part)
      sums = part if sums is None else jax.tree.map(np.add, sums, part)
    return sums

  return run


def program(experiment: "Experiment", count: Callable[..., PyTree]) -> Any:
  """The jitted pass over a batch: (state, examples, label i32[batch], mask f32[batch]) -> counts.

  Args:
    experiment, count: as in `over`.
  """

  def step(state, image, label, mask):
    return jax.lax.psum(count(_predict(experiment, state, image), label, mask), "data")

  return jax.jit(sharded(experiment.env, step, (STATE, *SPECS), P()))


def check_batch(experiment: "Experiment", name: str, batch: int) -> None:
  """Raises ConfigError where an evaluator's batch cannot be split over the mesh's `data` axis."""
  axis = experiment.env.mesh.shape["data"]
  if batch < 1 or batch % axis:
    hint = f"must be a positive multiple of the mesh's data axis, {axis}"
    raise ConfigError(f"evals.{name}.batch", batch, hint)


def batches(
  experiment: "Experiment", images: "ExampleSet", places: np.ndarray, batch: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
  """Batches (examples, label i32[batch], mask f32[batch]); the last one is padded, with mask 0."""
  for begin in range(0, len(places), batch):
    index = np.arange(begin, begin + batch)
    mask = (index < len(places)).astype(np.float32)
    index = places[np.minimum(index, len(places) - 1)]
    label = images.labels[index].astype(np.int32)
    yield experiment.unreadable.fetch_from(images, index), label, mask


def entries(experiment: "Experiment") -> set[str]:
  """The names of the entries that the method predicts, without running it."""
  env, test = experiment.env, experiment.data.source.test
  names = []

  def record(state, image):
    names.extend(_predict(experiment, state, image))
    return ()

  image = jax.ShapeDtypeStruct((env.mesh.shape["data"], *test.shape), test.dtype)
  program = sharded(env, record, (STATE, SPECS[0]), P())
  jax.eval_shape(program, experiment.shapes(), image)
  return set(names)


def seen(experiment: "Experiment", image: jax.Array) -> jax.Array:
  """Examples as a model sees them at test time."""
  return jax.vmap(experiment.view)(image).astype(experiment.env.dtype)


def _predict(experiment, state, image):
  env = experiment.env
  images = seen(experiment, image)
  made = experiment.algorithm.predict(state, images)
  sizes = [len(env.ids(g)) for g in range(len(env.cohorts))]
  shape = dict(sizes=sizes, replicas=env.R, examples=len(images), classes=env.task.classes)
  contract.check_predict(experiment.config["algorithm"], made, **shape)
  return made
