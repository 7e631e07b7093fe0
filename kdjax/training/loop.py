"""The training loop. It knows phases, never methods."""

import collections
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import jax

from kdjax.core import agreement, files, hosts
from kdjax.ending import DONE, STOPPED, UNSAVED
from kdjax.training import (
  checkpoint,
  clock,
  collapse,
  faults,
  lock,
  loss_log,
  resume,
  run_folder,
  scores,
  summary,
  writer,
)
from kdjax.training.profile import Profile
from kdjax.training.progress import Progress
from kdjax.training.stepper import Dispatch, Stepper
from kdjax.types import PyTree, TrainState

if TYPE_CHECKING:
  from kdjax.experiment import Experiment


Log = writer.Writer | writer.Silent
Shown = Progress | writer.Silent


def run(
  experiment: "Experiment",
  workdir: str | Path,
  *,
  command: str,
  stop: Callable[[], bool] = lambda: False,
  profile: int = 0,
) -> int:
  """Trains to the end of the config, or until told to stop; the same call again resumes.

  Args:
    experiment: Experiment.
    workdir: the run's folder.
    command: what a user types to resume it, for the record.
    stop: asked between dispatches; when true, saves and returns.
    profile: steps to trace into WORKDIR/profile, once the first ones have run; 0: none.

  Returns:
    `DONE`, `STOPPED`, or `UNSAVED` where the disk takes no checkpoint.

  Raises:
    ConfigError: where the folder belongs to another config or to other examples, to a run that is
      alive, or is damaged.
    TrainingError: where a loss is no longer finite.
  """
  workdir = Path(workdir)
  run_folder.check(workdir, experiment)
  if agreement.from_first(lambda: run_folder.finished(workdir, experiment.batches)):
    return DONE
  try:
    with contextlib.ExitStack() as stack:
      with _own_files(workdir):
        agreement.from_first(lambda: workdir.mkdir(parents=True, exist_ok=True))
        held = stack.enter_context(lock.held(workdir))
        agreement.from_first(lambda: run_folder.claim(workdir, experiment, command))
      state, batches, meta = resume.restore(experiment, workdir)
      with _own_files(workdir):
        agreement.from_first(lambda: run_folder.extend(workdir, experiment.config, batches or 0))
        log = stack.enter_context(_log(workdir, batches, meta))
      checkpoints = stack.enter_context(checkpoint.Checkpoints(workdir))
      run = TrainingRun(experiment, workdir, checkpoints, log, meta, held, profile)
      return run.train(state, stop)
  except _UnwrittenError as error:
    agreement.say(str(error))
    return UNSAVED


class _UnwrittenError(Exception):
  """The disk does not take the run's own files."""


@contextlib.contextmanager
def _own_files(workdir):
  """Within it nothing but the run's own files is written."""
  try:
    yield
  except OSError as error:
    reason = f"{error.filename or workdir} cannot be written: {error.strerror}"
    raise _UnwrittenError(reason) from None


def _log(workdir, batches, meta):
  """The first process writes; where its disk does not take it, all know."""
  opened: list[writer.Writer] = []
  known = meta.get("log")
  agreement.from_first(
    lambda: opened.append(writer.Writer(workdir, resume_step=batches, known=known))
  )
  return opened[0] if opened else writer.Silent()


class TrainingRun:
  """One stretch of training: from a restored state to the end, or to a stop.

  The device always has work: a dispatch is waited for when the next one is under way, and its
  losses are written then, or before anything that must see them.
  """

  def __init__(
    self,
    experiment: "Experiment",
    workdir: Path,
    checkpoints: checkpoint.Checkpoints,
    log: Log,
    meta: dict | None = None,
    held: lock.Lock | None = None,
    profile: int = 0,
  ) -> None:
    """Nothing is computed yet; `meta` is what was saved beside the restored state."""
    self.held = held
    self.experiment, self.workdir = experiment, workdir
    self.checkpoints, self.log = checkpoints, log
    self.stepper = Stepper(experiment)
    self.clock, self.images = clock.Clock(), 0
    self.messages: collections.Counter[str] = collections.Counter()  # of a peer
    self.earlier = (meta or {}).get("spent", {})
    self.profile = Profile(workdir, profile, self.stepper)
    self.losses = loss_log.LossLog(experiment.env, log, self.clock)
    self.watch = faults.FaultMonitor(experiment.env, experiment.visits)
    self.heads = collapse.CollapseMonitor(experiment)
    self.heads.restore((meta or {}).get("collapse", {}))
    self.unreadable = 0  # images that the log knows of
    self.evaluated = -1  # training batches at the last evaluation
    self.results: list[dict] | None = None  # what it found

  def train(self, state: TrainState, stop: Callable[[], bool]) -> int:
    """Dispatches, and between them whatever is due: losses, evaluations, checkpoints, a stop."""
    config, end = self.experiment.config, self.experiment.batches
    stopped, trains = hosts.AnyProcess(first=False), hosts.AnyProcess(first=True)
    self.watch.knows(state)
    bar = Progress if hosts.first() else writer.Silent
    plan = self.stepper.dispatches(int(state.calls), self.periods())
    with (
      bar(f"{config['algorithm']} on {config['source']}", end) as shown,
      contextlib.closing(self.stepper.feeds(plan)) as feeds,
      contextlib.closing(self.clock),
      contextlib.closing(self.profile),
    ):
      for dispatch, arguments in self.clock.waiting(feeds):
        self.profile.before(state)
        state, aux = self.advance(state, dispatch, arguments)
        self.record(dispatch, aux, arguments, shown)
        self.profile.after(dispatch, state)
        if dispatch.visit.phase.publish:
          self.publish(state, dispatch, shown)
        if not dispatch.settled:
          continue
        if names := self.evaluations_due(dispatch):
          shown.update(dispatch.batches, **self.losses.write())
          shown.update(dispatch.batches, **self.evaluate(state, dispatch.batches, names))
        stopping = dispatch.batches < end and stopped(stop() or self.watch.stops)
        if config["faults"]["client"] == "freeze" and dispatch.batches < end:
          stopping |= not trains(not self.watch.rests)
        if stopping or due(dispatch.batches, config["save_every"], end):
          shown.update(dispatch.batches, **self.losses.write())
          self.save(state, dispatch.batches)
          if self.given_up():
            return UNSAVED
        if stopping:
          if not self.on_disk(state, dispatch.batches):
            return UNSAVED
          faults.check(self.experiment.env, self.experiment.visits, state)
          return STOPPED
      shown.update(end, **self.losses.write())
      if not self.on_disk(state, end):
        return UNSAVED
      if self.results is None:  # the run was killed after its last save, before its summary
        with self.clock.pausing():
          self.results = self.stepper.evaluate(state)
    faults.check(self.experiment.env, self.experiment.visits, state)
    self.finish(state)
    return DONE

  def periods(self) -> tuple[int, ...]:
    """Training batches between two things that are due."""
    config = self.experiment.config
    evaluations = [every for every, _ in self.experiment.evaluators.values()]
    return (config["log_every"], config["save_every"], *evaluations)

  def advance(
    self, state: TrainState, dispatch: Dispatch, arguments: tuple
  ) -> tuple[TrainState, PyTree]:
    """Runs one dispatch: (state, aux of the last call)."""
    compiling = self.clock.compiling()
    state, aux = self.stepper.run(state, dispatch, arguments, compiling)
    visit, i = dispatch.visit, dispatch.first
    if visit.phase.feed:
      streams, end = self.experiment.streams, i + dispatch.calls
      self.images += streams.images(visit.phase.feed, visit.round, i, end)
    return state, aux

  def record(self, dispatch: Dispatch, aux: PyTree, arguments: tuple, shown: Shown) -> None:
    """Writes the losses of the dispatch before, and has this one's copied where they are due."""
    done = self.clock.dispatched(aux)
    visit, batches = dispatch.visit, dispatch.batches
    for fault in self.watch.note(aux):
      faults.report(fault, self.experiment.env.training.fault, self.log, batches)
    shown.update(batches, **self.losses.write())
    logs = visit.phase.log and dispatch.ends_visit
    every, end = self.experiment.config["log_every"], self.experiment.batches
    if logs or (visit.phase.feed and due(batches, every, end)):
      lr = arguments[1].lr[dispatch.calls - 1]
      self.losses.send_for(visit, aux, lr, batches, done, self.images)
    if visit.phase.outside:
      self.log.write(batches, visit.phase.name, self.stepper.counts)
      self.messages.update(self.stepper.counts)

  def publish(self, state: TrainState, dispatch: Dispatch, shown: Shown) -> None:
    """Writes every client's weights under the run folder's `pool/`."""
    shown.update(dispatch.batches, **self.losses.write())
    keep, cohorts = dispatch.visit.phase.publish, self.experiment.env.cohorts
    faults.check_whole(self.experiment.env, state, dispatch.batches)
    checkpoint.publish(self.workdir, state, cohorts, dispatch.batches, keep)

  def evaluations_due(self, dispatch: Dispatch) -> list[str]:
    """The evaluators due after a dispatch; one without a period is due after every round."""
    batches, end = dispatch.batches, self.experiment.batches
    return [
      name
      for name, (every, _) in self.experiment.evaluators.items()
      if self.evaluated < batches and (due(batches, every, end) if every else dispatch.ends_round)
    ]

  def evaluate(self, state: TrainState, batches: int, names: list[str]) -> dict[str, float]:
    """Runs these evaluators, writes their means; returns what the bar shows."""
    jax.block_until_ready(state)
    with self.clock.pausing():
      self.evaluated, self.results = batches, self.stepper.evaluate(state, names)
      env = self.experiment.env
      liars = () if env.hostile.kind == "none" else env.hostile.clients
      means = scores.means(self.results, env.population.seeds, clients=env.K, liars=liars)
      self.log.write(batches, "eval", means)
      collapse.report(self.heads.note(batches, self.results), self.log, batches)
    accuracy = scores.best(self.experiment.env.heads, self.results)
    return {} if accuracy is None else {"accuracy": accuracy}

  def save(self, state: TrainState, batches: int) -> None:
    """Starts saving a checkpoint of this very state."""
    jax.block_until_ready(state)
    faults.check_whole(self.experiment.env, state, batches)
    agreement.from_first(lambda: self.held.check() if self.held else None)
    unreadable = self.experiment.unreadable
    unreadable.unite()
    if unreadable.count > self.unreadable:
      self.unreadable = unreadable.count
      self.log.write(batches, "images", {"unreadable": unreadable.count})
    meta = {"hash": self.experiment.hash, "spent": self.spent(), "log": self.log.written()}
    meta |= {"unreadable": unreadable.record(), "collapse": self.heads.record()}
    with self.clock.pausing():
      accuracy = (
        scores.best(self.experiment.env.heads, self.results) if self.evaluated == batches else None
      )
      self.checkpoints.save(batches, state, meta, accuracy)

  def on_disk(self, state: TrainState, batches: int) -> bool:
    """Whether the last save has come to its end, well; one that did not is tried once more."""
    if not self.checkpoints.settle():
      self.save(state, batches)
      self.checkpoints.settle()
    return not self.given_up(least=1)

  def given_up(self, least: int = 0) -> bool:
    """Whether so many saves failed that the run ends here; says so."""
    failures = self.checkpoints.failures
    if not failures or failures < (least or self.experiment.config["faults"]["saves"]):
      return False
    saved = run_folder.steps(self.workdir)
    last = f"the last one is that of step {saved[-1]}" if saved else "there is none yet"
    agreement.say(f"the disk takes no checkpoint: {last}")
    return True

  def spent(self) -> dict[str, float]:
    """Images and seconds of the run until now, those of earlier stretches included."""
    here = {
      "images": self.images,
      "working": self.clock.working(),
      "waited": self.clock.waited,
      "compiled": self.clock.compiled,
      "wall": self.clock.wall(),
      **{summary.MESSAGES + key: count for key, count in self.messages.items()},
    }
    return {key: here.get(key, 0) + self.earlier.get(key, 0) for key in {**self.earlier, **here}}

  def finish(self, state: TrainState) -> None:
    """Writes `summary.json`."""
    found = summary.summary(self.experiment, self.results or [], self.spent(), state)
    found["collapsed"] = self.heads.summary()
    with _own_files(self.workdir):
      place = self.workdir / run_folder.SUMMARY
      agreement.from_first(lambda: files.write_json(place, found))


def due(batches: int, every: int, end: int) -> bool:
  """Whether something that happens every so many batches, and at the end, happens now."""
  return batches == end or (every > 0 and batches % every == 0)
