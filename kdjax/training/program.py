"""The jitted programs of an experiment: one for each phase of its method, traced once."""

import functools
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from kdjax.core import health, machine
from kdjax.core.env import DRAWN, STATE, Env, sharded
from kdjax.data import feed
from kdjax.training import contract
from kdjax.types import Batch, Feed, Phase

if TYPE_CHECKING:
  from kdjax.experiment import Experiment


# The PartitionSpecs of `inputs.inputs`' result.
INPUTS = (Batch(P(None, *DRAWN), P(None, *DRAWN), P()), P(), P())  # type: ignore[arg-type]


def dispatch_size(experiment: "Experiment", phase: Phase) -> int:
  """Calls that one dispatch of a phase can hold; phases without a batch run one at a time."""
  if phase.feed is None or not all(s.array is not None for s in experiment.sets.values()):
    return 1
  return experiment.steps_per_dispatch


def jitted(experiment: "Experiment", phase: Phase) -> Any:
  """The program of one phase; an experiment traces it once.

  Returns:
    A jitted (state, batches, nows, count, tables) -> (state, aux of the last call). `aux` is a dict
    for every cohort, numbers [K_g] by name, or one dict of [R] where a server trains. `batches` and
    `nows` have a leading axis of `dispatch_size`, of which the first `count` are run. `state` is
    donated. The number of calls is a traced value, so that calls give the same bits however they
    are cut into dispatches.
  """
  key = phase, machine.backend()
  if key not in experiment.traced:
    experiment.traced[key] = _jitted(experiment, phase)
  return experiment.traced[key]


def _jitted(experiment, phase):
  env = experiment.env
  call = _call(experiment, phase)

  def step(state, batch, now, tables):
    new, aux = call(state, batch, now, tables)
    before = (state.clients, state.server)
    after = (new.clients, new.server)
    clients, server = health.stamp(before, after, state.calls)
    if phase.feed is not None and phase.feed.server:
      healths = health.servers(server)
      aux = aux | ({"since": healths[0].since} if healths else {})
    elif phase.feed is not None:
      aux = tuple(a | {"since": c.health.since} for a, c in zip(aux, clients, strict=True))
    return new._replace(calls=state.calls + 1, clients=clients, server=server), aux

  def at(tree, i):
    return jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, i, keepdims=False), tree)

  def many(state, batches, nows, count, tables):
    once = jax.jit(step, inline=True)  # traced once for `shapes` and for the loop

    def body(i, carry):
      return once(carry[0], at(batches, i), at(nows, i), tables)

    shapes = jax.eval_shape(lambda: body(0, (state, None)))
    aux = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes[1])
    return jax.lax.fori_loop(0, count, body, (state, aux))

  def single(state, batches, nows, count, tables):
    return step(state, *_first((batches, nows)), tables)

  fn = single if dispatch_size(experiment, phase) == 1 else many
  aux = P() if phase.feed and phase.feed.server else P("client")
  run = sharded(env, fn, (STATE, *INPUTS, P()), (STATE, aux))
  # `keep_unused`: arrays that a phase overwrites without reading them are donated too.
  return jax.jit(
    run, donate_argnums=0, keep_unused=True, compiler_options=compiler_options(machine.backend())
  )


def read_only(experiment: "Experiment", phase: Phase) -> Any:
  """The program of a phase that does not change the state.

  Returns:
    A jitted (state, batches, nows, count, tables) -> aux of the first call, leaves [K_g, ...].
  """
  call = _call(experiment, phase)

  def single(state, batches, nows, count, tables):
    return call(state, *_first((batches, nows)), tables)[1]

  run = sharded(experiment.env, single, (STATE, *INPUTS, P()), P("client"))
  return jax.jit(run, compiler_options=compiler_options(machine.backend()))


def _call(experiment, phase):
  """One call of a phase on a drawn batch: (state, batch, now, tables) -> (state, aux)."""
  env = experiment.env
  transforms = (experiment.augment, experiment.preprocess)

  def call(state, batch, now, tables):
    if phase.feed is not None:
      batch = feed.materialise(env, phase, tables, batch, now, *transforms)
    result = phase.step(state, batch, now)
    sizes = [len(env.ids(g)) for g in range(len(env.cohorts))]
    contract.check_step(experiment.config["algorithm"], phase, state, result, sizes)
    return result

  return call


def _first(tree):
  return jax.tree.map(lambda x: x[0], tree)


@functools.cache
def compiler_options(backend: str) -> dict[str, str] | None:
  """XLA's options for a training step: on CPU, convolutions by Eigen; else None.

  YNNPACK, the default, is slower at a kernel's gradient, whose window is the whole image (bench
  suite `tried`). It keeps reductions and matrix products. If this XLA has no such option, the
  result is None too.
  """
  if backend != "cpu":
    return None
  kept = "LIBRARY_FUSION_TYPE_REDUCE,LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"
  options = {"xla_cpu_experimental_ynn_fusion_type": kept}
  try:
    jax.jit(lambda x: x, compiler_options=options).lower(0.0).compile()
  except jax.errors.JaxRuntimeError:
    return None
  return options


def examples(env: Env, feed: Feed) -> int:
  """The examples that one call processes, over all clients that take part."""
  cohorts = range(len(env.cohorts)) if feed.cohorts is None else feed.cohorts
  return sum(len(env.cohorts[g].ids) for g in cohorts) * (feed.private + feed.public)
