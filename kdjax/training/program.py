"""Jitted programs of an experiment: one for each phase of its method, traced once."""

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


# Specs of what `inputs` returns.
INPUTS = (Batch(P(None, *DRAWN), P(None, *DRAWN), P()), P(), P())  # type: ignore[arg-type]


def dispatch_size(experiment: "Experiment", phase: Phase) -> int:
  """Calls that one dispatch of a phase can hold; phases without a batch run one at a time."""
  if phase.feed is None or not all(s.array is not None for s in experiment.sets.values()):
    return 1
  return experiment.steps_per_dispatch


def jitted(experiment: "Experiment", phase: Phase) -> Any:
  """The program of one phase.

  Returns:
    A jitted (state, batches, nows, count, tables) -> (state, aux of the last call): numbers
    [K_g] by name, a dict for every cohort; or one dict of [R], where a server trains. `batches` and
    `nows` have a leading axis of `dispatch_size`, of which the first `count` are run; `state` is
    donated. The number of calls is a traced value: however they are cut into dispatches, it is one
    program and the same bits. An experiment has one of each, whoever asks.
  """
  key = phase, machine.backend()
  if key not in experiment.traced:
    experiment.traced[key] = _jitted(experiment, phase)
  return experiment.traced[key]


def _jitted(experiment, phase):
  env, called = experiment.env, _call(experiment, phase)

  def step(state, batch, now, tables):
    new, aux = called(state, batch, now, tables)
    before, after = (state.clients, state.server), (new.clients, new.server)
    clients, server = health.stamp(before, after, state.calls)
    if phase.feed is not None and phase.feed.server:
      whose = health.servers(server)
      aux = aux | ({"since": whose[0].since} if whose else {})
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
  # `keep_unused`: what a phase overwrites without reading it is donated too.
  return jax.jit(
    run, donate_argnums=0, keep_unused=True, compiler_options=compiler_options(machine.backend())
  )


def reading(experiment: "Experiment", phase: Phase) -> Any:
  """The program of a phase that leaves the state as it is.

  Returns:
    A jitted (state, batches, nows, count, tables) -> aux of the first call, leaves [K_g, ...].
  """
  called = _call(experiment, phase)

  def single(state, batches, nows, count, tables):
    return called(state, *_first((batches, nows)), tables)[1]

  run = sharded(experiment.env, single, (STATE, *INPUTS, P()), P("client"))
  return jax.jit(run, compiler_options=compiler_options(machine.backend()))


def _call(experiment, phase):
  """One call of a phase on a drawn batch: (state, batch, now, tables) -> (state, aux)."""
  env, made = experiment.env, (experiment.augment, experiment.preprocess)

  def call(state, batch, now, tables):
    if phase.feed is not None:
      batch = feed.materialise(env, phase, tables, batch, now, *made)
    found = phase.step(state, batch, now)
    sizes = [len(env.ids(g)) for g in range(len(env.cohorts))]
    contract.check_step(experiment.config["algorithm"], phase, state, found, sizes)
    return found

  return call


def _first(tree):
  return jax.tree.map(lambda x: x[0], tree)


@functools.cache
def compiler_options(backend: str) -> dict[str, str] | None:
  """What a training step's XLA is told beside its flags: on CPU, convolutions by Eigen; else None.

  YNNPACK, the default, is slower at a kernel's gradient, whose window is the whole image (bench
  suite `tried`); it keeps reductions and matrix products. None, too, where XLA has no such option.
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
  """Images that one call takes in, those of all clients that take part."""
  part = range(len(env.cohorts)) if feed.cohorts is None else feed.cohorts
  return sum(len(env.cohorts[g].ids) for g in part) * (feed.private + feed.public)
