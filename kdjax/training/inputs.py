"""The host's part of a dispatch: batches, positions, and the data sets resident on devices."""

import functools
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jax.sharding import PartitionSpec as P

from kdjax.core import hosts
from kdjax.data import feed, read_ahead
from kdjax.training.program import dispatch_size
from kdjax.training.schedule import Visit, position
from kdjax.types import Batch, Now

if TYPE_CHECKING:
  from kdjax.experiment import Experiment


def tables(experiment: "Experiment") -> dict[str, jax.Array]:
  """The data sets that are resident on every device: {half: [N, *shape]}.

  With several processes, a process blanks the images that none of its clients holds.
  """
  mesh = experiment.env.mesh
  shards = experiment.data.shards
  arrays = {half: s.array for half, s in experiment.sets.items() if s.array is not None}
  is_shared = arrays.get("public") is arrays.get("private") is not None  # one array for both
  if not hosts.alone() and "private" in arrays:
    kept = [*_own_lists(experiment), *(shards.public if is_shared else ())]
    arrays["private"] = _blank_but(arrays["private"], kept)
  if is_shared:
    arrays = {"private": arrays["private"]}
  (placed,) = hosts.place(mesh, (P(),), (arrays,))
  if hosts.alone():
    placed = jax.device_put(placed, jax.sharding.NamedSharding(mesh, P()))
  return dict.fromkeys(("private", "public"), placed["private"]) if is_shared else placed


def _own_lists(experiment):
  """The private lists that this process's clients ever work on."""
  env = experiment.env
  lists = experiment.data.shards.private
  if any(v.phase.feed and v.phase.feed.owner for v in experiment.visits):
    return lists  # models travel, and any client may meet any list
  data = env.mesh.shape["data"]  # one example per device tells which devices look at a client's
  ids = [np.asarray(c.ids)[hosts.holds(env.mesh, len(c.ids), data).any(1)] for c in env.cohorts]
  return [lists[k] for k in np.concatenate(ids)]


def _blank_but(images, lists):
  kept = np.zeros_like(images)
  for index in lists:
    kept[index] = images[index]
  return kept


def inputs(
  experiment: "Experiment",
  visit: Visit,
  start: int,
  count: int,
  total: int,
  *,
  images: bool | Callable = True,
) -> tuple[Batch, Now, np.int32]:
  """The host-side arguments of one dispatch: calls start .. start + count of a visit.

  Args:
    experiment: Experiment.
    visit: schedule.Visit.
    start, count: calls of the visit.
    total: calls of the phase in the whole run.
    images: whether to read the images of sets that are not resident, or the function that reads
      them, the `read` of feed.with_images.

  Returns:
    (batches, nows, count): whole arrays of all clients, padded along the first axis to
    `dispatch_size`; images that this process does not need are blank.
  """
  size = dispatch_size(experiment, visit.phase)
  at = [position(visit, i, total) for i in range(start, start + count)]
  nows = [_now(experiment, visit.phase, pos) for pos in at]
  batches = [_batch(experiment, visit.phase, pos, images) for pos in at]
  pad = functools.partial(_stack, size=size)
  return jax.tree.map(pad, *batches), jax.tree.map(pad, *nows), np.int32(count)


def pieces(experiment: "Experiment", dispatches: Iterable[tuple], totals: dict[int, int]) -> Any:
  """The images to read for dispatches (visit, first call, 1): read_ahead.Pieces."""
  algorithm = experiment.algorithm
  needed = functools.partial(_needed, experiment.env)
  steps = [(visit.number, position(visit, i, totals[visit.number])) for visit, i, _ in dispatches]
  phases = algorithm.prologue + algorithm.cycle
  return read_ahead.plan(experiment.streams, experiment.sets, phases, needed, steps)


def _stack(*leaves, size):
  """Stacks leaves along a new first axis, padded with zeros to `size`."""
  stacked = np.stack(leaves) if len(leaves) > 1 else np.asarray(leaves[0])[None]  # no copy
  if len(leaves) == size:
    return stacked
  return np.concatenate(
    [stacked, np.zeros((size - len(leaves), *stacked.shape[1:]), stacked.dtype)]
  )


def _now(experiment, phase, pos):
  rate = phase.lr or experiment.env.rate
  counts = [np.int32(n) for n in (pos.call, pos.phase_call, pos.visit_call, pos.round)]
  return Now(*counts, np.float32(rate(pos)), jax.tree.map(np.asarray, phase.args(pos)))


def _batch(experiment, phase, pos, images):
  if phase.feed is None:
    return Batch(None, None)
  halves = experiment.streams.batch(phase.feed, phase.name, pos)
  if images:
    needed = functools.partial(_needed, experiment.env)
    read = images if callable(images) else feed.read_now(experiment.unreadable.fetch)
    halves = feed.with_images(halves, experiment.sets, needed, read)
  batch = feed.by_cohort(halves, experiment.env.cohorts, phase.feed.cohorts)
  return batch._replace(server=phase.feed.server(pos)) if phase.feed.server else batch


def _needed(env, examples):
  """bool[R*K, examples]: the examples of a batch that this process's devices need."""
  needed = np.zeros((env.clients, examples), bool)
  for cohort in env.cohorts:
    needed[list(cohort.ids)] = hosts.holds(env.mesh, len(cohort.ids), examples)
  return needed
