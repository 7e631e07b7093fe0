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
  """Traces the steps after the first dispatches of a run into WORKDIR/profile, once."""

  def __init__(self, workdir: Path, steps: int, stepper: Stepper) -> None:
    """Nothing is traced yet; 0 steps: nothing ever is."""
    self.workdir, self.steps, self.stepper = workdir, steps, stepper
    self.seen = self.traced = 0
    self.began: float | None = None

  def after(self, dispatch: Dispatch, state: TrainState) -> None:
    """Begins, counts or ends, after a dispatch."""
    if not self.steps or not dispatch.visit.phase.feed:
      return
    if self.began is None:
      self.seen += 1
      if self.seen == WARM:
        jax.block_until_ready(state)
        jax.profiler.start_trace(str(self.workdir / "profile"))
        self.began = time.perf_counter()
      return
    self.traced += dispatch.count
    if self.traced >= self.steps:
      jax.block_until_ready(state)
      seconds = (time.perf_counter() - self.began) / self.traced
      self.close()
      if hosts.first():
        self.keep(self.record(dispatch.visit.number, seconds))

  def keep(self, found: dict[str, Any]) -> None:
    """Writes the record; a disk that does not take it ends no run."""
    try:
      files.write_json(self.workdir / "profile.json", found)
    except OSError as error:
      print(f"profile.json is not written: {error.strerror}; it says {found}", file=sys.stderr)

  def close(self) -> None:
    """Ends a trace that is under way: of a run that ends, or stops, before."""
    if self.began is not None and self.steps:
      jax.profiler.stop_trace()
    self.steps = 0

  def record(self, number: int, seconds: float) -> dict[str, Any]:
    """What was found of a phase's steps.

    The FLOPs are those of convolutions and products of one step on one device, counted in the
    compiled program; `share_of_peak` is theirs of the data sheet's, None where no file of
    `hardware/targets` describes the device.
    """
    device = self.stepper.experiment.env.mesh.devices.flat[0]
    where = target.of(device)
    found: dict[str, Any] = {"steps": self.traced, "seconds_a_step": seconds}
    found |= {"device": device.device_kind, "flops_a_step": None, "share_of_peak": None}
    if where is not None:
      priced = cost(hlo.parse(self.stepper.programs[number].as_text()), where)
      found |= {"flops_a_step": priced.flops, "share_of_peak": priced.arithmetic / seconds}
    return found
