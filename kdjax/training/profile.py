"""A trace of some steps for XProf, and the share of the device's peak that they reached."""

import sys
import time
from pathlib import Path
from typing import Any

import jax

from kdjax.core import files, hosts
from kdjax.hardware import hlo, target
from kdjax.hardware.cost import cost
from kdjax.training.stepper import Dispatch, Stepper
from kdjax.types import TrainState

WARM = 2  # dispatches with a batch before the trace: one compiles, one runs for the first time


class Profile:
  """Traces the steps after the first dispatches of a run into WORKDIR/profile, once.

  While it traces, it waits for every dispatch. The time of a dispatch is that of its program alone,
  without the host's work between two dispatches, evaluations and saves.
  """

  def __init__(self, workdir: Path, steps: int, stepper: Stepper) -> None:
    """Traces nothing yet; with 0 steps it never does."""
    self.workdir = workdir
    self.steps = steps
    self.stepper = stepper
    self.seen = 0  # dispatches with a batch before the trace
    self.tracing = False
    self.since = 0.0  # when the dispatch under way began
    self.spent: dict[int, tuple[int, float]] = {}  # number of a phase: (steps, seconds)

  def before(self, state: TrainState) -> None:
    """Notes when a dispatch begins."""
    if self.tracing:
      jax.block_until_ready(state)
      self.since = time.perf_counter()

  def after(self, dispatch: Dispatch, state: TrainState) -> None:
    """After a dispatch: begins the trace, counts the dispatch, or ends the trace."""
    if not self.steps or not dispatch.visit.phase.feed:
      return
    if not self.tracing:
      self.seen += 1
      if self.seen == WARM:
        jax.block_until_ready(state)
        jax.profiler.start_trace(str(self.workdir / "profile"))
        self.tracing = True
      return
    jax.block_until_ready(state)
    steps, seconds = self.spent.get(dispatch.visit.number, (0, 0.0))
    seconds += time.perf_counter() - self.since
    self.spent[dispatch.visit.number] = steps + dispatch.calls, seconds
    if self._traced() >= self.steps:
      self._end()
      if hosts.first():
        self.keep(self.record())

  def keep(self, record: dict[str, Any]) -> None:
    """Writes the record to profile.json; a write error is reported, not raised."""
    try:
      files.write_json(self.workdir / "profile.json", record)
    except OSError as error:
      print(
        f"profile.json is not written: {error.strerror}; its content: {record}", file=sys.stderr
      )

  def close(self) -> None:
    """Ends a trace that is under way, as when the run ends or stops before, and says so."""
    if self.steps and hosts.first():
      text = f"--profile={self.steps}: the run ended after {self._traced()} of these steps"
      print(f"{text}, there is no profile.json", file=sys.stderr)
    self._end()

  def _traced(self):
    return sum(steps for steps, _ in self.spent.values())

  def _end(self):
    if self.tracing:
      jax.profiler.stop_trace()
    self.tracing = False
    self.steps = 0

  def record(self) -> dict[str, Any]:
    """The measurements of the phase whose steps took most of the time.

    `flops_a_step` counts the convolutions and matrix products of one step on one device, in the
    compiled program. `share_of_peak` is their rate over the data sheet's, `roofline_seconds_a_step`
    the least time of the program. They are None if no file of `hardware/targets` describes the
    device.
    """
    number = max(self.spent, key=lambda phase: self.spent[phase][1])
    steps, seconds = self.spent[number]
    seconds /= steps
    device = self.stepper.experiment.env.mesh.devices.flat[0]
    phase = next(v.phase for v in self.stepper.experiment.visits if v.number == number)
    record: dict[str, Any] = {"phase": phase.name, "steps": steps, "seconds_a_step": seconds}
    record["device"] = device.device_kind
    record |= dict.fromkeys(("flops_a_step", "roofline_seconds_a_step", "share_of_peak"))
    if sheet := target.of(device):
      priced = cost(hlo.parse(self.stepper.experiment.programs[number].as_text()), sheet)
      record |= {"flops_a_step": priced.flops, "roofline_seconds_a_step": priced.time}
      record["share_of_peak"] = priced.arithmetic / seconds
    return record
