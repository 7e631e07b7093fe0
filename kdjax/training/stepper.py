"""An experiment's programs, inputs and tables as one object: state in, state out.

The training loop, the benchmarks, the tests and a user's own loop all call it. A Stepper keeps the
data sets that are resident on the devices, never the state. Its experiment keeps the compiled
programs, for all Steppers.
"""

import contextlib
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import jax

from kdjax.core import hosts
from kdjax.data import read_ahead
from kdjax.training import inputs as host
from kdjax.training import loss_log, program, schedule
from kdjax.types import ConfigError, PyTree, TrainState

if TYPE_CHECKING:
  from kdjax.experiment import Experiment


class Dispatch(NamedTuple):
  """Calls first .. first + calls of a visit, run as one program."""

  visit: schedule.Visit
  first: int
  calls: int

  @property
  def batches(self) -> int:
    """Training batches of the run after it."""
    return self.visit.after(self.first + self.calls)

  @property
  def ends_visit(self) -> bool:
    """Whether it is the last of its visit."""
    return self.first + self.calls == self.visit.calls

  @property
  def settled(self) -> bool:
    """Whether evaluation and saving may follow it."""
    return not self.ends_visit or self.visit.settled

  @property
  def ends_round(self) -> bool:
    """Whether it is the last of its turn of the cycle."""
    return self.ends_visit and self.visit.ends_round


class Stepper:
  """Runs an experiment's dispatches."""

  def __init__(self, experiment: "Experiment", tables: dict[str, jax.Array] | None = None) -> None:
    """Places the data sets that fit on the devices; compiles nothing yet.

    Args:
      experiment: Experiment.
      tables: the sets that another Stepper has placed on the same mesh; None: they are placed now.
    """
    self.experiment = experiment
    self.totals = schedule.totals(experiment.visits)
    self.tables = host.tables(experiment) if tables is None else tables
    self.counts: dict[str, float] = {}  # message counts of the last phase with `outside`

  def init(self) -> TrainState:
    """Makes the state of step 0."""
    return self.experiment.init()

  def done(self, state: TrainState) -> bool:
    """Whether the run's last call has been made."""
    last = self.experiment.visits[-1]
    return int(state.calls) >= last.start + last.calls

  def dispatches(self, calls: int, periods: tuple[int, ...] = ()) -> Iterator[Dispatch]:
    """Yields the dispatches from a position on; each ends where a period ends, at the latest.

    Args:
      calls: calls of phases so far, `TrainState.calls`.
      periods: the periods of logging, saving and evaluation in training batches; 0: never.
    """
    periods = (*periods, self.experiment.batches)
    for visit in self.experiment.visits:
      i = max(0, calls - visit.start)
      size = program.dispatch_size(self.experiment, visit.phase)
      while i < visit.calls:
        batches = visit.after(i)
        count = min([size, visit.calls - i, *(p - batches % p for p in periods if p)])
        yield Dispatch(visit, i, count)
        i += count

  def inputs(self, dispatch: Dispatch, images: bool | Callable = True) -> tuple:
    """The host-side arguments of a dispatch, see `inputs.inputs`."""
    visit, first, count = dispatch
    total = self.totals[visit.number]
    return host.inputs(self.experiment, visit, first, count, total, images=images)

  def feeds(self, dispatches: Iterator[Dispatch]) -> Generator[tuple[Dispatch, tuple], None, None]:
    """Yields dispatches with their inputs; images that are not resident are read ahead."""
    plan = list(dispatches)
    if all(s.array is not None for s in self.experiment.sets.values()):
      yield from ((dispatch, self.inputs(dispatch)) for dispatch in plan)
      return
    pieces = host.pieces(self.experiment, plan, self.totals)
    note = self.experiment.unreadable.note
    with read_ahead.reading(pieces, **self.experiment.config["input"]) as parts:
      for dispatch in plan:
        read = pieces.reader(dispatch.visit.number, parts, note)
        yield dispatch, self.inputs(dispatch, images=read)

  def run(
    self,
    state: TrainState,
    dispatch: Dispatch,
    arguments: tuple | None = None,
    compiling: contextlib.AbstractContextManager | None = None,
  ) -> tuple[TrainState, PyTree]:
    """Runs one dispatch; `state` is donated.

    Args:
      state: TrainState.
      dispatch: the dispatch to run.
      arguments: its inputs; None: they are made now.
      compiling: a context manager to compile in, or None.

    Returns:
      (state, aux of the last call), on the devices, see `program.jitted`.
    """
    arguments = self.inputs(dispatch) if arguments is None else arguments
    if dispatch.visit.phase.outside:
      arguments = self._from_outside(state, dispatch.visit, arguments)
    arguments = hosts.place(self.experiment.env.mesh, program.INPUTS, arguments)
    number = dispatch.visit.number
    programs = self.experiment.programs
    if number not in programs:
      with compiling or contextlib.nullcontext():
        jitted = program.jitted(self.experiment, dispatch.visit.phase)
        programs[number] = jitted.lower(state, *arguments, self.tables).compile()
    return programs[number](state, *arguments, self.tables)

  def _from_outside(self, state, visit, arguments):
    """A dispatch's inputs, with what `Phase.outside` returned as its args."""
    batches, nows, count = arguments
    args, self.counts = visit.phase.outside(self, state, visit)
    return batches, nows._replace(args=jax.tree.map(lambda x: x[None], args)), count

  def outputs(self, state: TrainState, visit: schedule.Visit, name: str) -> list[PyTree]:
    """The aux of every call of a visit that does not change the state, on the host.

    Args:
      state: TrainState.
      visit: a visit of a phase, which need not be one of the run's.
      name: the key of the compiled program in `Experiment.programs`.
    """
    out = []
    programs = self.experiment.programs
    for i in range(visit.calls):
      arguments = host.inputs(self.experiment, visit, i, 1, visit.calls)
      arguments = hosts.place(self.experiment.env.mesh, program.INPUTS, arguments)
      if name not in programs:
        jitted = program.read_only(self.experiment, visit.phase)
        programs[name] = jitted.lower(state, *arguments, self.tables).compile()
      out.append(hosts.fetch(programs[name](state, *arguments, self.tables)))
    return out

  def step(self, state: TrainState) -> tuple[TrainState, dict[str, float]]:
    """Runs one training batch and the phases without a batch that follow it, as an average.

    Returns:
      (state, the batch's losses by name: means over the clients that took part).
    """
    losses = {}
    is_trained = False
    for dispatch in self.dispatches(int(state.calls)):
      if is_trained and dispatch.visit.phase.feed:
        break
      state, aux = self.run(state, dispatch._replace(calls=1))
      if dispatch.visit.phase.feed:
        losses = loss_log.means(hosts.fetch(aux))
        is_trained = True
        if dispatch.first + 1 < dispatch.visit.calls:
          break
    return state, losses

  def evaluate(self, state: TrainState, names: Sequence[str] | None = None) -> list[dict]:
    """Runs evaluators, all or those named; returns their results over replicas, see `Evaluator`."""
    jax.block_until_ready(state)
    results: list[dict] = [{} for _ in range(self.experiment.env.R)]
    for name in self.experiment.evaluators if names is None else names:
      _, evaluator = self.experiment.evaluators[name]
      returned = _checked(name, evaluator(state), len(results))
      results = [old | new for old, new in zip(results, returned, strict=True)]
    return results


def _checked(name, returned, R):
  """An evaluator's result, checked to be of the form that `Evaluator` defines."""
  is_list = isinstance(returned, list) and len(returned) == R
  dicts = is_list and all(isinstance(result, dict) for result in returned)
  if not dicts or not all(isinstance(value, dict) for x in returned for value in x.values()):
    form = "{key: {name: a number, or one per client}}"
    raise ConfigError(f"evals.{name}", returned, f"must return a list of {R} dicts, {form}")
  return returned
