"""An experiment's programs, inputs and tables as one object: state in, state out.

The training loop, the benchmarks, the tests and a user's own loop all call it. It keeps what is
resident on the devices, never the state; what is compiled its experiment keeps, for all Steppers.
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
    """Nothing is compiled yet; sets that fit are placed on the devices.

    Args:
      experiment: Experiment.
      tables: the sets, where another Stepper on the same mesh has placed them.
    """
    self.experiment = experiment
    self.totals = schedule.totals(experiment.visits)
    self.tables = host.tables(experiment) if tables is None else tables
    self.counts: dict[str, float] = {}  # of what the last phase that hears of elsewhere heard

  def init(self) -> TrainState:
    """The state of step 0."""
    return self.experiment.init()

  def done(self, state: TrainState) -> bool:
    """Whether the run's last call has been made."""
    last = self.experiment.visits[-1]
    return int(state.calls) >= last.start + last.calls

  def dispatches(self, calls: int, periods: tuple[int, ...] = ()) -> Iterator[Dispatch]:
    """What there is to run from a position on; none reaches across anything that is due.

    Args:
      calls: of phases so far, `TrainState.calls`.
      periods: training batches between two things that are due; 0: never.
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
    """The host's part of a dispatch, see `inputs.inputs`."""
    visit, i, count = dispatch
    return host.inputs(self.experiment, visit, i, count, self.totals[visit.number], images=images)

  def feeds(self, dispatches: Iterator[Dispatch]) -> Generator[tuple[Dispatch, tuple], None, None]:
    """Dispatches with their inputs; images that are not resident are read some steps ahead."""
    plan = list(dispatches)
    if all(s.array is not None for s in self.experiment.sets.values()):
      yield from ((one, self.inputs(one)) for one in plan)
      return
    pieces = host.pieces(self.experiment, plan, self.totals)
    note = self.experiment.unreadable.note
    with read_ahead.reading(pieces, **self.experiment.config["input"]) as parts:
      for one in plan:
        yield one, self.inputs(one, images=pieces.reader(one.visit.number, parts, note))

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
      dispatch: what to run.
      arguments: its inputs; None: made now.
      compiling: a context manager to compile in, or None.

    Returns:
      (state, aux of the last call), on the devices, see `program.jitted`.
    """
    arguments = self.inputs(dispatch) if arguments is None else arguments
    if dispatch.visit.phase.outside:
      arguments = self._from_outside(state, dispatch.visit, arguments)
    arguments = hosts.place(self.experiment.env.mesh, program.INPUTS, arguments)
    number, programs = dispatch.visit.number, self.experiment.programs
    if number not in programs:
      with compiling or contextlib.nullcontext():
        jitted = program.jitted(self.experiment, dispatch.visit.phase)
        programs[number] = jitted.lower(state, *arguments, self.tables).compile()
    return programs[number](state, *arguments, self.tables)

  def _from_outside(self, state, visit, arguments):
    """A dispatch's inputs with what was heard of elsewhere as its phase's args."""
    batches, nows, count = arguments
    heard, self.counts = visit.phase.outside(self, state, visit)
    return batches, nows._replace(args=jax.tree.map(lambda x: x[None], heard)), count

  def told(self, state: TrainState, visit: schedule.Visit, name: str) -> list[PyTree]:
    """The aux of every call of a visit that leaves the state as it is, on the host.

    Args:
      state: TrainState.
      visit: of a phase that need not be one of the run's.
      name: what its program is kept under.
    """
    out, programs = [], self.experiment.programs
    for i in range(visit.calls):
      arguments = host.inputs(self.experiment, visit, i, 1, visit.calls)
      arguments = hosts.place(self.experiment.env.mesh, program.INPUTS, arguments)
      if name not in programs:
        jitted = program.reading(self.experiment, visit.phase)
        programs[name] = jitted.lower(state, *arguments, self.tables).compile()
      out.append(hosts.fetch(programs[name](state, *arguments, self.tables)))
    return out

  def step(self, state: TrainState) -> tuple[TrainState, dict[str, float]]:
    """One training batch and the phases without a batch that follow it: an average, a refresh.

    Returns:
      (state, the batch's losses by name: means over the clients that took part).
    """
    losses, taken = {}, False
    for one in self.dispatches(int(state.calls)):
      if taken and one.visit.phase.feed:
        break
      state, aux = self.run(state, one._replace(calls=1))
      if one.visit.phase.feed:
        losses, taken = loss_log.means(hosts.fetch(aux)), True
        if one.first + 1 < one.visit.calls:
          break
    return state, losses

  def evaluate(self, state: TrainState, names: Sequence[str] | None = None) -> list[dict]:
    """What evaluators find, all or those named: over replicas, as `Evaluator` says."""
    jax.block_until_ready(state)
    results: list[dict] = [{} for _ in range(self.experiment.env.R)]
    for name in self.experiment.evaluators if names is None else names:
      _, evaluator = self.experiment.evaluators[name]
      found = _checked(name, evaluator(state), len(results))
      results = [old | new for old, new in zip(results, found, strict=True)]
    return results


def _checked(name, found, R):
  """What an evaluator returned, as `Evaluator` asks for it."""
  dicts = isinstance(found, list) and len(found) == R and all(isinstance(x, dict) for x in found)
  if not dicts or not all(isinstance(value, dict) for x in found for value in x.values()):
    what = "{key: {name: a number, or one a client}}"
    raise ConfigError(f"evals.{name}", found, f"must return a list of {R} dicts, {what}")
  return found
