"""A trace of some steps for XProf, and what share of the device's peak they reached."""

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

WARM = 2  # dispatches with a batch before the trace begins: one compiles, one is the first to run


class Profile:
  """Traces the steps after the first dispatches of a run into WORKDIR/profile, once.

  While it traces, every dispatch is waited for: its time is the program's alone, without what the
  host does between two of them, evaluations and saves.
  """

  def __init__(self, workdir: Path, steps: int, stepper: Stepper) -> None:
    """Nothing is traced yet; 0 steps: nothing ever is."""
    self.workdir, self.steps, self.stepper = workdir, steps, stepper
    self.seen, self.tracing, self.since = 0, False, 0.0
    self.spent: dict[int, tuple[int, float]] = {}  # phase: (steps, seconds)

  def before(self, state: TrainState) -> None:
    """Notes when a dispatch begins."""
    if self.tracing:
      jax.block_until_ready(state)
      self.since = time.perf_counter()

  def after(self, dispatch: Dispatch, state: TrainState) -> None:
    """Begins, counts or ends, after a dispatch."""
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
    if sum(steps for steps, _ in self.spent.values()) >= self.steps:
      self.close()
      if hosts.first():
        self.keep(self.record())

  def keep(self, found: dict[str, Any]) -> None:
    """Writes the record; a disk that does not take it ends no run."""
    try:
      files.write_json(self.workdir / "profile.json", found)
    except OSError as error:
      print(f"profile.json is not written: {error.strerror}; it says {found}", file=sys.stderr)

  def close(self) -> None:
    """Ends a trace that is under way: of a run that ends, or stops, before."""
    if self.tracing:
      jax.profiler.stop_trace()
    self.tracing, self.steps = False, 0

  def record(self) -> dict[str, Any]:
    """What was found of the phase whose steps took most of the time.

    The FLOPs are those of convolutions and products of one step on one device, counted in the
    compiled program; `share_of_peak` is theirs of the data sheet's, `roofline_seconds_a_step` what
    the program would take at best: None where no file of `hardware/targets` describes the device.
    """
    number = max(self.spent, key=lambda phase: self.spent[phase][1])
    steps, seconds = self.spent[number]
    seconds /= steps
    device = self.stepper.experiment.env.mesh.devices.flat[0]
    phase = next(v.phase for v in self.stepper.experiment.visits if v.number == number)
    found: dict[str, Any] = {"phase": phase.name, "steps": steps, "seconds_a_step": seconds}
    found["device"] = device.device_kind
    found |= dict.fromkeys(("flops_a_step", "roofline_seconds_a_step", "share_of_peak"))
    if where := target.of(device):
      priced = cost(hlo.parse(self.stepper.experiment.programs[number].as_text()), where)
      found |= {"flops_a_step": priced.flops, "roofline_seconds_a_step": priced.time}
      found["share_of_peak"] = priced.arithmetic / seconds
    return found
