"""`kdjax measure`: the forms in which this machine can run a config, timed, for `auto` to take.

The forms (local map, how convolutions are written, whether clients are spread over host devices)
change no result beyond rounding. They are timed in turn, a block of steps each, so that a slower
minute of the machine hits all alike; what counts is the median.
"""

import argparse
import dataclasses
import itertools
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax

from kdjax import experiment, forms, layout
from kdjax.config import plain, read_config
from kdjax.core import machine
from kdjax.core.mapping import MAPS
from kdjax.data.dataset import Data
from kdjax.experiment import Experiment
from kdjax.forms import Form, Load, Measurement
from kdjax.hardware import hlo, memory, target
from kdjax.hardware.cost import cost
from kdjax.hardware.target import GIB
from kdjax.models.conv import LOWERINGS
from kdjax.training import program
from kdjax.training.stepper import Dispatch, Stepper
from kdjax.types import ConfigError

BLOCK = 0.3  # seconds of a block, about
UNROLLED = 8  # clients of an accelerator: of more, a copy each takes a compiler too long


class Bounds(NamedTuple):
  """What timing may take.

  Neither a compilation nor a dispatch can be interrupted: what has begun is finished.
  """

  compiling: float  # seconds; one begins only if the longest so far would still end in time
  timing: float  # seconds after which no block begins
  most: int  # forms that are timed, the cheapest
  runs: int  # blocks of each


# Before a run's first step: some minutes where it runs for hours, and never more.
CONTEST = Bounds(compiling=300.0, timing=60.0, most=3, runs=5)


class Timing(NamedTuple):
  """How one form did."""

  form: Form
  seconds: tuple[float, ...]  # a training step, one number a block
  compiling: float  # seconds until it was ready
  load: Load
  need: float  # bytes of a device, as its compiler says
  roofline: float | None = None  # seconds of a step that the compiled program would cost at best

  @property
  def median(self) -> float:
    """Seconds of a training step."""
    return statistics.median(self.seconds)


@dataclasses.dataclass
class Ready:
  """A form that is compiled."""

  form: Form
  stepper: Stepper
  dispatch: Dispatch
  arguments: tuple
  compiling: float
  need: float
  price: float | None
  repeats: int = 0  # dispatches of a block; 0: it never ran
  seconds: list[float] = dataclasses.field(default_factory=list)


class Shared:
  """What forms on the same devices share: the resident sets, and one state, donated in turn."""

  def __init__(self) -> None:
    """Nothing is there yet."""
    self.tables: dict[Any, Any] = {}
    self.states: dict[Any, Any] = {}

  def stepper(self, built: Experiment) -> Stepper:
    """A Stepper whose resident sets are those of the others."""
    stepper = Stepper(built, self.tables.get(built.env.mesh))
    self.tables[built.env.mesh] = stepper.tables
    return stepper

  def state(self, stepper: Stepper) -> Any:
    """The state, taken out: whoever takes it puts another back."""
    state = self.states.pop(stepper.experiment.env.mesh, None)
    return stepper.init() if state is None else state

  def put(self, stepper: Stepper, state: Any) -> None:
    """Puts a state back."""
    self.states[stepper.experiment.env.mesh] = state


def candidates(load: Load, sizes: list[int]) -> list[Form]:
  """What can be tried: every map and lowering, on one host device and on as many as pay.

  First what a run would take where nothing was measured, then plain convolutions, and among these
  what compiles sooner.
  """
  backend = machine.backend()
  spread = layout.host_devices(sizes, len(jax.devices())) if backend == "cpu" else 1
  lowerings = LOWERINGS if load.convolves else LOWERINGS[:1]
  tried = [Form(*f) for f in itertools.product(MAPS, lowerings, sorted({False, spread > 1}))]
  if backend != "cpu" and load.clients > UNROLLED:
    tried = [f for f in tried if f.local_map != "unroll"]
  # In a loop or a copy a client, `split` is `direct`.
  tried = [f for f in tried if f.conv != "split" or f.local_map == "vmap"]
  usual = forms.unmeasured(backend, load)
  return sorted(
    tried, key=lambda f: (f != usual, f.conv != "direct", forms.SOONER.index(f.local_map))
  )


def measure(config: Any, bounds: Bounds, *, say=lambda text: None) -> list[Timing]:
  """Times the forms of a config's first training phase, the fastest first.

  Args:
    config: as `experiment.build` takes it; its data are read.
    bounds: Bounds.
    say: called with a line of text for every form, as it is compiled and timed.

  Raises:
    ConfigError: where no form fits into the device's memory.
  """
  config = plain(config)
  first = experiment.build(config)
  timings = _compared(config, first, bounds, say, keep=lambda timing: None)
  if not timings:
    raise ConfigError("batch", config["batch"], "no form of the step fits into the device's memory")
  return timings


def contest(
  config: Any, bounds: Bounds, *, data: Data | None = None, say=lambda text: None
) -> list[Timing]:
  """Where `auto` knows nothing of this kind of device: the cheapest forms, timed, and kept.

  What a form costs is read off its compiled program (`hardware/cost.py`); only the clock decides.
  Where no file of `hardware/targets` describes the device, the first forms are timed. Nothing
  happens on a CPU, with `mesh.map` or `mesh.conv` set, where no form fits into the device, or where
  rows of this device are kept for a load that is as near as half and twice. Every time is kept as
  soon as it is there.

  Args:
    config, bounds, say: as in `measure`.
    data: its data, where they are there already.

  Returns:
    The timings, the fastest first; empty where there was no contest.
  """
  config = plain(config)
  asked = config["mesh"]["map"], config["mesh"]["conv"]
  if machine.backend() == "cpu" or asked != ("auto", "auto"):
    return []
  first = experiment.build(config, data=data)
  if forms.knows(forms.measured(), machine.backend(), layout.device(), _load(config, first)):
    return []
  say(f"no form was measured on {layout.device()} for this load; mesh.map overrides")
  keep = lambda timing: record([timing], forms.own_table())
  timings = _compared(config, first, bounds, say, keep)
  forms.measured.cache_clear()
  return timings


def _compared(config, first, bounds, say, keep):
  """The timings of the cheapest forms; empty where none fits."""
  load, sizes = _load(config, first), [len(c.ids) for c in first.env.cohorts]
  shared = Shared()
  tried = candidates(load, sizes)
  if target.of(jax.devices()[0]) is None:  # no price says which of them are worth a compilation
    tried = tried[: bounds.most]
  ready = compiled(config, first, tried, shared, bounds.compiling, say=say)
  return timed(ready[: bounds.most], load, shared, bounds, say=say, keep=keep)


def compiled(
  config: dict[str, Any],
  first: Experiment,
  tried: list[Form],
  shared: Shared,
  seconds: float,
  *,
  say,
) -> list[Ready]:
  """The forms that fit, compiled as a run's steps are, the cheapest by the roofline first.

  A dispatch is as long as a value says, so the price of its program is that of one step. On a
  device that no file of `hardware/targets` describes there are no prices, and the order stays.

  Args:
    config: nested dict.
    first: its experiment.
    tried: the forms.
    shared: Shared.
    seconds: `Bounds.compiling`.
    say: called with a line of text for every form.
  """
  ready: list[Ready] = []
  began, longest = time.perf_counter(), 0.0
  for form in tried:
    start = time.perf_counter()
    if start - began + longest > seconds:
      say(f"{words(form)}: left out, it might not be compiled within {seconds:.0f} s")
      continue
    one = _ready(config, form, first, shared)
    longest = max(longest, time.perf_counter() - start)
    if one is None:
      say(f"{words(form)}: does not fit")
      continue
    price = "" if one.price is None else f", {1e3 * one.price:.3g} ms by the roofline"
    say(f"{words(form)}: compiled in {one.compiling:.1f} s{price}, {one.need / GIB:.2f} GiB")
    ready.append(one)
  return sorted(ready, key=lambda one: one.price or 0.0)


def _ready(config, form, first, shared):
  """A form, compiled; None where it does not fit."""
  began = time.perf_counter()
  mesh = config["mesh"] | {"map": form.local_map, "conv": form.conv}
  devices = layout.default_devices([len(c.ids) for c in first.env.cohorts], form)
  stepper = shared.stepper(
    experiment.build(config | {"mesh": mesh}, data=first.data, devices=devices)
  )
  dispatch = next(d for d in stepper.dispatches(0) if d.visit.phase.feed)
  arguments = stepper.inputs(dispatch)
  jitted = program.jitted(stepper.experiment, dispatch.visit.phase)
  state = stepper.experiment.template()
  found = memory.compile(jitted.lower(state, *arguments, stepper.tables))
  where = target.of(devices[0])
  if found.program is None or (where and found.need > where.memory):
    return None
  stepper.programs[dispatch.visit.number] = found.program
  price = cost(hlo.parse(found.program.as_text() or ""), where).time if where else None
  compiling = time.perf_counter() - began
  return Ready(form, stepper, dispatch, arguments, compiling, found.need, price)


def timed(
  ready: list[Ready],
  load: Load,
  shared: Shared,
  bounds: Bounds,
  *,
  say,
  keep: Callable[[Timing], None],
) -> list[Timing]:
  """Times forms in turn, the fastest first; those that do not fit are left out.

  Args:
    ready: of `compiled`.
    load: what a device has to compute.
    shared: Shared.
    bounds: Bounds.
    say: called with a line of text for every form.
    keep: called with a form's Timing whenever it has a new block.
  """
  began, alive = time.perf_counter(), list(ready)
  for turn in range(bounds.runs):
    at = turn % max(1, len(alive))
    for one in alive[at:] + alive[:at]:
      if time.perf_counter() - began > bounds.timing:
        break
      try:
        one.seconds.append(_block(one, shared))
      except jax.errors.JaxRuntimeError as error:
        if not memory.exhausted(error):
          raise
        say(f"{words(one.form)}: does not fit")
        alive.remove(one)
        continue
      if len(one.seconds) == 1:
        say(f"{words(one.form)}: {1e3 * one.seconds[0]:.3g} ms a step")
      keep(_timing(one, load))
  return sorted((_timing(one, load) for one in alive if one.seconds), key=lambda t: t.median)


def _timing(one, load):
  return Timing(one.form, tuple(one.seconds), one.compiling, load, one.need, one.price)


def _load(config, built):
  devices = list(built.env.mesh.devices.flat)
  return layout.load(config, built.env.cohorts, built.env.task.image, built.env.dtype, devices)


def _block(one, shared):
  """Takes some training steps; returns the seconds of one."""
  began = time.perf_counter()
  state = shared.state(one.stepper)
  if not one.repeats:  # a step to warm up, then a dispatch that says how many make a block
    state, _ = one.stepper.run(state, one.dispatch._replace(count=1))
    jax.block_until_ready(state)
    began = time.perf_counter()
    state, _ = one.stepper.run(state, one.dispatch, one.arguments)
    jax.block_until_ready(state)
    one.repeats = max(1, int(BLOCK / (time.perf_counter() - began)))
  if one.seconds or one.repeats > 1:  # a long dispatch is a block by itself
    began = time.perf_counter()
    for _ in range(one.repeats):  # two dispatches at most are under way, as in a run
      before = state
      state, _ = one.stepper.run(before, one.dispatch, one.arguments)
      jax.block_until_ready(state.step)
    jax.block_until_ready(state)
  seconds = (time.perf_counter() - began) / (one.repeats * one.dispatch.count)
  shared.put(one.stepper, state)
  return seconds


def record(timings: list[Timing], path: Path) -> None:
  """Keeps measurements in the user's own table, which `auto` reads."""
  here = machine.backend(), layout.device()
  forms.keep((Measurement(*here, t.load, t.form, 1e3 * t.median) for t in timings), path)


def table(timings: list[Timing]) -> str:
  """The timings as plain text, beside what the compiled programs promised."""
  best = timings[0].median
  head = ("ms a step", "of best", "roofline ms", "GiB planned", "compile s")
  lines = [f"{'form':28} " + " ".join(f"{name:>12}" for name in head)]
  for t in timings:
    spread = f"{1e3 * t.median:.3g} ± {1e3 * (max(t.seconds) - min(t.seconds)) / 2:.2g}"
    least = "-" if t.roofline is None else f"{1e3 * t.roofline:.3g}"
    cells = (spread, f"{t.median / best:.2f}", least, f"{t.need / GIB:.3f}", f"{t.compiling:.1f}")
    lines.append(f"{words(t.form):28} " + " ".join(f"{cell:>12}" for cell in cells))
  stats = jax.local_devices()[0].memory_stats() or {}
  if "peak_bytes_in_use" in stats:  # of all forms: nothing sets it back
    most, peak = max(t.need for t in timings), stats["peak_bytes_in_use"]
    lines.append(f"memory: at most {most / GIB:.3f} GiB planned, {peak / GIB:.3f} at the peak")
  return "\n".join(lines)


def words(form: Form) -> str:
  """A form's name."""
  return f"{form.local_map}, {form.conv}" + (", spread" if form.spread else "")


def measure_cli(argv: list[str]) -> int:
  """`kdjax measure --config=NAME`; returns the exit code."""
  parser = argparse.ArgumentParser("kdjax measure", description=__doc__.partition("\n")[0])
  parser.add_argument("--config", required=True, help="a config's name or file")
  parser.add_argument("--runs", type=int, default=5, help="blocks of every form")
  parser.add_argument(
    "--budget", type=float, default=900.0, help="seconds for compiling, and as many for timing"
  )
  parser.add_argument("--record", action="store_true", help="keep them for map='auto'")
  arguments = parser.parse_args(argv)
  if arguments.runs < 1:
    raise ConfigError("--runs", arguments.runs, "must be at least 1")
  if not arguments.budget > 0:
    raise ConfigError("--budget", arguments.budget, "must be above 0 seconds")
  config = read_config(arguments.config)
  machine.configure_jax(machine.cores(), x64=config.model.get("dtype") == "float64")
  bounds = Bounds(arguments.budget, arguments.budget, most=sys.maxsize, runs=arguments.runs)
  timings = measure(config, bounds, say=lambda text: print(text, file=sys.stderr, flush=True))
  print(table(timings))
  if arguments.record:
    record(timings, forms.own_table())
    print(f"kept in {forms.own_table()}")
  return 0
