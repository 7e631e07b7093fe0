"""Jitted programs of an experiment: one for each phase of its method, traced once."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P

from kdjax.core import hosts
from kdjax.core.clients import HALF, STATE, sharded
from kdjax.data import ahead, feed
from kdjax.schedule import position
from kdjax.types import Batch, Now

INPUTS = (Batch(P(None, *HALF), P(None, *HALF), P()), P(), P())  # specs of what `inputs` returns


def tables(experiment):
  """The sets that are resident in memory, on every device: {half: u8[N, h, w, c]}.

  With several processes, images that none of a process's clients holds are blank there.
  """
  mesh, shards = experiment.env.mesh, experiment.data.shards
  arrays = {half: s.array for half, s in experiment.sets.items() if s.array is not None}
  once = arrays.get("public") is arrays.get("private") is not None
  if jax.process_count() > 1 and "private" in arrays:
    kept = [*_own_lists(experiment), *(shards.public if once else ())]
    arrays["private"] = _blank_but(arrays["private"], kept)
  if once:
    arrays = {"private": arrays["private"]}
  (placed,) = hosts.place(mesh, (P(),), (arrays,))
  if jax.process_count() == 1:
    placed = jax.device_put(placed, jax.sharding.NamedSharding(mesh, P()))
  return dict.fromkeys(("private", "public"), placed["private"]) if once else placed


def _own_lists(experiment):
  """The private lists that this process's clients ever work on."""
  env, lists = experiment.env, experiment.data.shards.private
  if any(v.phase.feed and v.phase.feed.owner for v in experiment.visits):
    return lists  # models travel
  data = env.mesh.shape["data"]  # one example a device: who looks at any of a client's
  ids = [np.asarray(c.ids)[hosts.holds(env.mesh, len(c.ids), data).any(1)] for c in env.cohorts]
  return [lists[k] for k in np.concatenate(ids)]


def _blank_but(images, lists):
  kept = np.zeros_like(images)
  for index in lists:
    kept[index] = images[index]
  return kept


def dispatch_size(experiment, phase):
  """Calls that one dispatch of a phase can hold; phases without a batch run one at a time."""
  if phase.feed is None or not all(s.array is not None for s in experiment.sets.values()):
    return 1
  return experiment.steps_per_dispatch


def build(experiment, phase):
  """The program of one phase.

  Returns:
    A jitted (state, batches, nows, count, tables) -> (state, aux of the last call): numbers
    [K_g] by name, a dict for every cohort; or one dict of [R], where a server trains. `batches` and
    `nows` have a leading axis of `dispatch_size`, of which the first `count` are run; `state` is
    donated. The number of calls is a traced value: however they are cut into dispatches, it is one
    program and the same bits.
  """
  env = experiment.env

  def step(state, batch, now, tables):
    if phase.feed is not None:
      batch = feed.materialise(
        env, phase, tables, batch, now, experiment.augment, experiment.preprocess
      )
    state, aux = phase.step(state, batch, now)
    return state._replace(step=state.step + 1), aux

  def at(tree, i):
    return jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, i, keepdims=False), tree)

  def many(state, batches, nows, count, tables):
    def body(i, carry):
      return step(carry[0], at(batches, i), at(nows, i), tables)

    shapes = jax.eval_shape(lambda: body(0, (state, None)))
    aux = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes[1])
    return jax.lax.fori_loop(0, count, body, (state, aux))

  def single(state, batches, nows, count, tables):
    first = lambda tree: jax.tree.map(lambda x: x[0], tree)
    return step(state, first(batches), first(nows), tables)

  fn = single if dispatch_size(experiment, phase) == 1 else many
  aux = P() if phase.feed and phase.feed.server else P("client")
  run = sharded(env, fn, (STATE, *INPUTS, P()), (STATE, aux))
  # `keep_unused`: what a phase overwrites without reading it is donated too.
  return jax.jit(run, donate_argnums=0, keep_unused=True, compiler_options=compiler_options())


@functools.cache
def compiler_options():
  """What a training step's XLA is told beside its flags: on CPU, convolutions by Eigen; else None.

  YNNPACK, the default, is slower at a kernel's gradient, whose window is the whole image (bench
  suite `tried`); it keeps reductions and matrix products. None, too, where XLA has no such option.
  """
  if jax.default_backend() != "cpu":
    return None
  kept = "LIBRARY_FUSION_TYPE_REDUCE,LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"
  options = {"xla_cpu_experimental_ynn_fusion_type": kept}
  try:
    jax.jit(lambda x: x, compiler_options=options).lower(0.0).compile()
  except jax.errors.JaxRuntimeError:
    return None
  return options


def examples(env, feed):
  """Images that one call takes in, those of all clients that take part."""
  part = range(len(env.cohorts)) if feed.cohorts is None else feed.cohorts
  return sum(len(env.cohorts[g].ids) for g in part) * (feed.private + feed.public)


def inputs(experiment, visit, start, count, total, *, images=True):
  """Host-side arguments of one dispatch: calls start .. start + count of a visit.

  Args:
    experiment: Experiment.
    visit: schedule.Visit.
    start, count: calls of the visit.
    total: calls of the phase in the whole run.
    images: whether to read the images of sets that are not resident, or what reads them, the
      `read` of feed.with_images.

  Returns:
    (batches, nows, count): whole arrays of all clients, padded along the first axis to
    `dispatch_size`; images that this process does not need are blank.
  """
  size = dispatch_size(experiment, visit.phase)
  at = [position(visit, i, total) for i in range(start, start + count)]
  nows = [_now(visit.phase, pos) for pos in at]
  batches = [_batch(experiment, visit.phase, pos, images) for pos in at]
  pad = functools.partial(_stack, size=size)
  return jax.tree.map(pad, *batches), jax.tree.map(pad, *nows), np.int32(count)


def pieces(experiment, dispatches, totals):
  """What there is to read for dispatches (visit, first call, 1), ahead.Pieces."""
  algorithm, needed = experiment.algorithm, functools.partial(_needed, experiment.env)
  steps = [(visit.number, position(visit, i, totals[visit.number])) for visit, i, _ in dispatches]
  phases = algorithm.prologue + algorithm.cycle
  return ahead.plan(experiment.streams, experiment.sets, phases, needed, steps)


def _stack(*leaves, size):
  stacked = np.stack(leaves) if len(leaves) > 1 else np.asarray(leaves[0])[None]  # no copy
  if len(leaves) == size:
    return stacked
  return np.concatenate(
    [stacked, np.zeros((size - len(leaves), *stacked.shape[1:]), stacked.dtype)]
  )


def _now(phase, pos):
  numbers = [np.int32(n) for n in (pos.step, pos.count, pos.round, pos.i)]
  return Now(*numbers, np.float32(phase.lr(pos)), jax.tree.map(np.asarray, phase.args(pos)))


def _batch(experiment, phase, pos, images):
  if phase.feed is None:
    return Batch(None, None)
  halves = experiment.streams.batch(phase.feed, phase.name, pos)
  if images:
    sets, needed = experiment.sets, functools.partial(_needed, experiment.env)
    read = images if callable(images) else feed.read_now(sets)
    halves = feed.with_images(halves, sets, needed, read)
  batch = feed.by_cohort(halves, experiment.env.cohorts, phase.feed.cohorts)
  return batch._replace(server=phase.feed.server(pos)) if phase.feed.server else batch


def _needed(env, examples):
  """bool[R*K, examples]: what this process's devices will look at."""
  needed = np.zeros((env.clients, examples), bool)
  for cohort in env.cohorts:
    needed[list(cohort.ids)] = hosts.holds(env.mesh, len(cohort.ids), examples)
  return needed
