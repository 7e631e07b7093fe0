"""The training loop of one stretch of a run: it knows phases, never methods."""

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


class Stretch:
  """One stretch of training: from a restored state to the end, or to a stop.

  The device always has work: the loop waits for a dispatch when the next one is under way. It
  writes the losses of a dispatch then, or earlier where something must see them.
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
    name: str = "",
  ) -> None:
    """Prepares the stretch; computes nothing yet.

    Args:
      experiment: Experiment.
      workdir: the run's folder.
      checkpoints: the run's checkpoints.
      log: the run's log.
      meta: what was saved beside the restored state; None: nothing was.
      held: the folder's lock, in the process that holds it.
      profile: steps to trace, see `loop.run`.
      name: of a variant, see `loop.run`.
    """
    self.held = held
    self.name = name or experiment.config["algorithm"]
    self.experiment = experiment
    self.workdir = workdir
    self.checkpoints = checkpoints
    self.log = log
    self.stepper = Stepper(experiment)
    self.clock = clock.Clock()
    self.images = 0  # training images of this stretch
    self.messages: collections.Counter[str] = collections.Counter()  # of a peer
    self.earlier = (meta or {}).get("spent", {})  # images and seconds of earlier stretches
    self.profile = Profile(workdir, profile, self.stepper)
    self.losses = loss_log.LossLog(experiment.env, log, self.clock)
    self.fault_monitor = faults.FaultMonitor(experiment.env, experiment.visits)
    self.noted = 0  # training batches after the newest dispatch that it was told of
    self.collapse_monitor = collapse.CollapseMonitor(experiment)
    self.collapse_monitor.restore((meta or {}).get("collapse", {}))
    self.stopped_anywhere = hosts.AnyProcess(first=False)
    self.trains_anywhere = hosts.AnyProcess(first=True)
    self.unreadable = experiment.unreadable.count  # images that the log has counted
    self.evaluated = -1  # training batches at the last evaluation
    self.results: list[dict] | None = None  # of the last evaluation

  def train(self, state: TrainState, stop: Callable[[], bool]) -> int:
    """Runs the dispatches, and after each of them whatever is due.

    Args:
      state: the restored state, or that of step 0; donated.
      stop: see `loop.run`.

    Returns:
      The exit code, see `loop.run`.
    """
    config = self.experiment.config
    end = self.experiment.batches
    self.fault_monitor.knows(state)
    bar = Progress if hosts.first() else writer.Silent
    plan = self.stepper.dispatches(int(state.calls), self.periods())
    with (
      bar(f"{self.name} on {config['source']}", end) as shown,
      contextlib.closing(self.stepper.feeds(plan)) as feeds,
      contextlib.closing(self.clock),
      contextlib.closing(self.profile),
    ):
      for dispatch, arguments in self.clock.waiting(feeds):
        state = self.run_dispatch(state, dispatch, arguments, shown)
        if dispatch.settled:
          code = self.act_between(state, dispatch, stop, shown)
          if code is not None:
            return code
      shown.update(end, **self.losses.write())
      if not self.on_disk(state, end):
        return UNSAVED
      if self.results is None:  # the run was killed after its last save, before its summary
        with self.clock.pausing():
          self.results = self.stepper.evaluate(state)
    faults.check(self.experiment.env, self.experiment.visits, state)
    self.finish(state)
    return DONE

  def run_dispatch(
    self, state: TrainState, dispatch: Dispatch, arguments: tuple, shown: Shown
  ) -> TrainState:
    """Runs a dispatch and records it: losses, faults, a trace, published snapshots."""
    self.profile.before(state)
    state, aux = self.advance(state, dispatch, arguments)
    self.record(dispatch, aux, arguments, shown)
    self.profile.after(dispatch, state)
    if dispatch.visit.phase.publish:
      self.publish(state, dispatch, shown)
    return state

  def act_between(
    self, state: TrainState, dispatch: Dispatch, stop: Callable[[], bool], shown: Shown
  ) -> int | None:
    """Evaluates, saves or stops after a dispatch, as is due.

    Returns:
      The exit code of a run that ends here, or None.
    """
    batches = dispatch.batches
    if names := self.evaluations_due(dispatch):
      shown.update(batches, **self.losses.write())
      shown.update(batches, **self.evaluate(state, batches, names))
    stopping = self.must_stop(batches, stop)
    if stopping or due(batches, self.experiment.config["save_every"], self.experiment.batches):
      self.report_faults()  # a run that goes on from here counts them as reported
      shown.update(batches, **self.losses.write())
      self.save(state, batches)
      if self.given_up(self.experiment.config["faults"]["saves"]):
        return UNSAVED
    if not stopping:
      return None
    if not self.on_disk(state, batches):
      return UNSAVED
    faults.check(self.experiment.env, self.experiment.visits, state)
    return STOPPED

  def must_stop(self, batches: int, stop: Callable[[], bool]) -> bool:
    """Whether the run stops before its end, as all processes agree."""
    if batches >= self.experiment.batches:
      return False
    stopping = self.stopped_anywhere(stop() or self.fault_monitor.stops)
    if self.experiment.config["faults"]["client"] == "freeze":
      stopping |= not self.trains_anywhere(not self.fault_monitor.all_frozen)
    return stopping

  def periods(self) -> tuple[int, ...]:
    """The periods of logging, saving and evaluation in training batches."""
    config = self.experiment.config
    evaluations = [every for every, _ in self.experiment.evaluators.values()]
    return (config["log_every"], config["save_every"], *evaluations)

  def advance(
    self, state: TrainState, dispatch: Dispatch, arguments: tuple
  ) -> tuple[TrainState, PyTree]:
    """Runs one dispatch; returns (state, aux of the last call)."""
    compiling = self.clock.compiling()
    state, aux = self.stepper.run(state, dispatch, arguments, compiling)
    visit = dispatch.visit
    if visit.phase.feed:
      end = dispatch.first + dispatch.calls
      images = self.experiment.streams.images(visit.phase.feed, visit.round, dispatch.first, end)
      self.images += images
    return state, aux

  def record(self, dispatch: Dispatch, aux: PyTree, arguments: tuple, shown: Shown) -> None:
    """Writes the losses of the dispatch before, and starts copying this one's where due."""
    done = self.clock.dispatched(aux)
    visit = dispatch.visit
    batches = dispatch.batches
    self.report_faults(aux)
    self.noted = batches
    shown.update(batches, **self.losses.write())
    logs_visit = visit.phase.log and dispatch.ends_visit
    is_due = due(batches, self.experiment.config["log_every"], self.experiment.batches)
    if logs_visit or (visit.phase.feed and is_due):
      lr = arguments[1].lr[dispatch.calls - 1]
      self.losses.send_for(visit, aux, lr, batches, done, self.images)
    if visit.phase.outside:
      self.log.write(batches, visit.phase.name, self.stepper.counts)
      self.messages.update(self.stepper.counts)

  def report_faults(self, aux: PyTree = ()) -> None:
    """Reports the new faults of the dispatch before; `aux` is that of the newest one, if any."""
    for fault in self.fault_monitor.note(aux):
      faults.report(fault, self.experiment.env.training.fault, self.log, self.noted)

  def publish(self, state: TrainState, dispatch: Dispatch, shown: Shown) -> None:
    """Writes every client's weights under the run folder's `pool/`."""
    shown.update(dispatch.batches, **self.losses.write())
    env = self.experiment.env
    keep = dispatch.visit.phase.publish
    faults.check_whole(env, state, dispatch.batches)
    checkpoint.publish(self.workdir, state, env.cohorts, dispatch.batches, keep)

  def evaluations_due(self, dispatch: Dispatch) -> list[str]:
    """The evaluators due after a dispatch; one with period 0 is due after every round."""
    batches = dispatch.batches
    end = self.experiment.batches
    return [
      name
      for name, (every, _) in self.experiment.evaluators.items()
      if self.evaluated < batches and (due(batches, every, end) if every else dispatch.ends_round)
    ]

  def evaluate(self, state: TrainState, batches: int, names: list[str]) -> dict[str, float]:
    """Runs some evaluators and writes their means; returns the numbers for the bar."""
    jax.block_until_ready(state)
    with self.clock.pausing():
      self.evaluated, self.results = batches, self.stepper.evaluate(state, names)
      env = self.experiment.env
      means = scores.means(self.results, env.population.seeds, clients=env.K, liars=env.liars)
      self.log.write(batches, "eval", means)
      collapse.report(self.collapse_monitor.note(batches, self.results), self.log, batches)
    accuracy = self.score()
    return {} if accuracy is None else {"accuracy": accuracy}

  def score(self) -> float | None:
    """The score of the last evaluation, see `scores.best`."""
    env = self.experiment.env
    return scores.best(env.heads, self.results, clients=env.K, liars=env.liars)

  def save(self, state: TrainState, batches: int) -> None:
    """Starts saving a checkpoint of this state."""
    jax.block_until_ready(state)
    faults.check_whole(self.experiment.env, state, batches)
    agreement.from_first(lambda: self.held.check() if self.held else None)
    unreadable = self.experiment.unreadable
    unreadable.unite()
    if unreadable.count > self.unreadable:
      self.unreadable = unreadable.count
      self.log.write(batches, "images", {"unreadable": unreadable.count})
    meta = {"hash": self.experiment.hash, "spent": self.spent(), "log": self.log.written()}
    meta |= {"unreadable": unreadable.record(), "collapse": self.collapse_monitor.record()}
    with self.clock.pausing():
      accuracy = self.score() if self.evaluated == batches else None
      self.checkpoints.save(batches, state, meta, accuracy)

  def on_disk(self, state: TrainState, batches: int) -> bool:
    """Waits for the last save; returns whether it is on disk. A failed save is tried once more."""
    if not self.checkpoints.settle():
      self.save(state, batches)
      self.checkpoints.settle()
    return not self.given_up(1)

  def given_up(self, limit: int) -> bool:
    """Whether `limit` or more consecutive saves failed, so that the run ends; reports it."""
    if self.checkpoints.failures < limit:
      return False
    saved = run_folder.steps(self.workdir)
    last = f"the last one is that of step {saved[-1]}" if saved else "there is none yet"
    agreement.say(f"the disk takes no checkpoint: {last}")
    return True

  def spent(self) -> dict[str, float]:
    """Images and seconds of the run so far, earlier stretches included."""
    stretch = {
      "images": self.images,
      "working": self.clock.working(),
      "waited": self.clock.waited,
      "compiled": self.clock.compiled,
      "wall": self.clock.wall(),
      **{summary.MESSAGES + key: count for key, count in self.messages.items()},
    }
    keys = {**self.earlier, **stretch}
    return {key: stretch.get(key, 0) + self.earlier.get(key, 0) for key in keys}

  def finish(self, state: TrainState) -> None:
    """Writes `summary.json`."""
    contents = summary.summary(self.experiment, self.results or [], self.spent(), state)
    contents["collapsed"] = self.collapse_monitor.summary()
    with run_folder.own_files(self.workdir):
      path = self.workdir / run_folder.SUMMARY
      agreement.from_first(lambda: files.write_json(path, contents))


def due(batches: int, every: int, end: int) -> bool:
  """Whether something is due that happens every `every` batches, and at the end; 0: at the end."""
  return batches == end or (every > 0 and batches % every == 0)
