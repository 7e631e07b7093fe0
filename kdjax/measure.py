"""`kdjax measure`: the forms in which this machine can run a config, timed, for `auto` to take.

The forms (local map, how convolutions are written, whether clients are spread over host devices)
change no result beyond rounding. They are timed in turn, a block of steps each, so that a slower
minute of the machine hits all alike; what counts is the median.
"""

import argparse
import itertools
import statistics
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax

from kdjax import experiment, forms, layout, plan
from kdjax.config import plain, read_config
from kdjax.core import machine
from kdjax.core.mapping import MAPS
from kdjax.data.dataset import Data
from kdjax.experiment import Experiment
from kdjax.forms import Form, Load, Measurement
from kdjax.hardware import hlo, memory, target
from kdjax.hardware.cost import cost
from kdjax.models.conv import LOWERINGS
from kdjax.training.stepper import Stepper
from kdjax.types import ConfigError

BLOCK = 0.3  # seconds of a block, about


class Timing(NamedTuple):
  """How one form did."""

  form: Form
  seconds: tuple[float, ...]  # a training step, one number a block
  compiling: float  # seconds until its first step was done
  load: Load
  roofline: float | None = None  # seconds of a step that the compiled program would cost at best

  @property
  def median(self) -> float:
    """Seconds of a training step."""
    return statistics.median(self.seconds)


def candidates(config: dict[str, Any], convolves: bool, sizes: list[int]) -> list[Form]:
  """What can be tried: every map and lowering, on one host device and on as many as pay."""
  spread = layout.host_devices(sizes, len(jax.devices())) if machine.backend() == "cpu" else 1
  lowerings = LOWERINGS if convolves else LOWERINGS[:1]
  tried = itertools.product(MAPS, lowerings, sorted({False, spread > 1}))
  # In a loop or a copy a client, `split` is `direct`.
  return [Form(*f) for f in tried if f[1] != "split" or f[0] == "vmap"]


def measure(config: Any, *, runs: int, say=lambda text: None) -> list[Timing]:
  """Times every form of a config's first training phase, the fastest first.

  Args:
    config: as `experiment.build` takes it; its data are read.
    runs: blocks of every form.
    say: called with a line of text now and then.
  """
  config = plain(config)
  first = experiment.build(config, devices=jax.devices()[:1])
  sizes = [len(c.ids) for c in first.env.cohorts]
  tried = candidates(config, _load(config, first).convolves, sizes)
  prices = priced(config, first, tried, say=say)
  if not prices:
    raise ConfigError("batch", config["batch"], "no form of the step fits into the device's memory")
  return timed(config, first, list(prices), prices, runs=runs, say=say)


def contest(
  config: Any, *, data: Data | None = None, most: int, runs: int, say=lambda text: None
) -> list[Timing]:
  """Where `auto` knows nothing of this kind of device: the cheapest forms, timed, and kept.

  What a form costs is read off its compiled program (`hardware/cost.py`); only the clock decides.
  Nothing happens on a CPU or a device that no target describes, with `mesh.map` or `mesh.conv` set,
  where no form fits into the device, or where rows of this device are
  kept for a load that is as near as half and twice.

  Args:
    config, say: as in `measure`.
    data: its data, where they are there already.
    most: forms that are timed.
    runs: blocks of each.

  Returns:
    The timings, the fastest first; empty where there was no contest.
  """
  config = plain(config)
  asked = config["mesh"]["map"], config["mesh"]["conv"]
  if machine.backend() == "cpu" or asked != ("auto", "auto"):
    return []
  if target.of(jax.devices()[0]) is None:
    return []
  first = experiment.build(config, data=data, devices=jax.devices()[:1])
  load = _load(config, first)
  if forms.knows(forms.measured(), machine.backend(), layout.device(), load):
    return []
  sizes = [len(c.ids) for c in first.env.cohorts]
  say(f"no form was measured on {layout.device()} for this load; mesh.map overrides")
  prices = priced(config, first, candidates(config, load.convolves, sizes), say=say)
  if not prices:  # nothing fits as it is: the run sees to that
    return []
  timings = timed(config, first, list(prices)[:most], prices, runs=runs, say=say)
  record(timings, forms.own_table())
  forms.measured.cache_clear()
  return timings


def priced(
  config: dict[str, Any], first: Experiment, tried: list[Form], *, say
) -> dict[Form, float | None]:
  """Seconds of a step that the forms' compiled programs would cost at best, the cheapest first.

  Those that do not fit are left out. On a device that no file of `hardware/targets` describes there
  are no prices, and the forms stay as they are. Arguments as in `timed`.
  """
  where = target.of(jax.devices()[0])
  if where is None:
    return dict.fromkeys(tried)
  prices: dict[Form, float] = {}
  for form in tried:
    mesh = config["mesh"] | {"map": form.local_map, "conv": form.conv, "steps_per_dispatch": 1}
    devices = list(first.env.mesh.devices.flat)
    planned = experiment.build(config | {"mesh": mesh}, data=first.data, devices=devices)
    visit = next(v for v in plan.first_visits(planned) if v.phase.feed)
    found = memory.compile(plan.lower(planned, visit))
    if found.program is not None and found.need <= where.memory:
      prices[form] = cost(hlo.parse(found.program.as_text() or ""), where).time
      say(f"{_words(form)}: {1e3 * prices[form]:.3g} ms by the roofline")
    else:
      say(f"{_words(form)}: does not fit")
  return {form: prices[form] for form in sorted(prices, key=lambda form: prices[form])}


def timed(
  config: dict[str, Any],
  first: Experiment,
  tried: list[Form],
  prices: dict[Form, float | None],
  *,
  runs: int,
  say,
) -> list[Timing]:
  """Times forms in turn, the fastest first.

  Args:
    config: nested dict.
    first: its experiment, on one device.
    tried: the forms.
    prices: of `priced`.
    runs: blocks of every form.
    say: called with a line of text now and then.
  """
  sizes, load = [len(c.ids) for c in first.env.cohorts], _load(config, first)
  ready = []
  for form in tried:
    say(f"{_words(form)}: compiling")
    began = time.perf_counter()
    block = _block(config, form, first.data, sizes)
    ready.append((form, block, time.perf_counter() - began))
  found: dict[Form, list[float]] = {form: [] for form, *_ in ready}
  for turn in range(runs):
    say(f"round {turn + 1} of {runs}")
    for form, block, _ in ready[turn % len(ready) :] + ready[: turn % len(ready)]:
      found[form].append(block())
  timings = [
    Timing(form, tuple(found[form]), seconds, load, prices.get(form)) for form, _, seconds in ready
  ]
  return sorted(timings, key=lambda t: t.median)


def _load(config, built):
  return layout.load(config, built.env.cohorts, built.env.task.image, built.env.dtype)


def _block(config, form, data, sizes):
  """A function that takes some training steps and returns the seconds of one; compiled already."""
  mesh = config["mesh"] | {"map": form.local_map, "conv": form.conv}
  devices = layout.default_devices(sizes, form) if form.spread else jax.devices()[:1]
  stepper = Stepper(experiment.build(config | {"mesh": mesh}, data=data, devices=devices))
  first = next(d for d in stepper.dispatches(0) if d.visit.phase.feed)
  arguments, state = stepper.inputs(first), stepper.init()
  state, _ = jax.block_until_ready(stepper.run(state, first, arguments))
  began = time.perf_counter()
  state, _ = jax.block_until_ready(stepper.run(state, first, arguments))
  repeats = max(1, int(BLOCK / (time.perf_counter() - began)))

  def block():
    nonlocal state
    began = time.perf_counter()
    for _ in range(repeats):  # two dispatches at most are under way, as in a run
      before = state
      state, _ = stepper.run(before, first, arguments)
      jax.block_until_ready(state.step)
    jax.block_until_ready(state)
    return (time.perf_counter() - began) / (repeats * first.count)

  return block


def record(timings: list[Timing], path: Path) -> None:
  """Keeps measurements in the user's own table, which `auto` reads."""
  here = machine.backend(), layout.device()
  forms.keep((Measurement(*here, t.load, t.form, 1e3 * t.median) for t in timings), path)


def table(timings: list[Timing]) -> str:
  """The timings as plain text."""
  best = timings[0].median
  lines = [f"{'form':28} {'ms a step':>12} {'of best':>8} {'compile s':>10} {'roofline ms':>12}"]
  for t in timings:
    spread = f"{1e3 * t.median:.3g} ± {1e3 * (max(t.seconds) - min(t.seconds)) / 2:.2g}"
    least = "-" if t.roofline is None else f"{1e3 * t.roofline:.3g}"
    line = (
      f"{_words(t.form):28} {spread:>12} {t.median / best:8.2f} {t.compiling:10.1f} {least:>12}"
    )
    lines.append(line)
  return "\n".join(lines)


def _words(form):
  return f"{form.local_map}, {form.conv}" + (", spread" if form.spread else "")


def measure_cli(argv: list[str]) -> int:
  """`kdjax measure --config=NAME`; returns the exit code."""
  parser = argparse.ArgumentParser("kdjax measure", description=__doc__.partition("\n")[0])
  parser.add_argument("--config", required=True, help="a config's name or file")
  parser.add_argument("--runs", type=int, default=5, help="blocks of every form")
  parser.add_argument("--record", action="store_true", help="keep them for map='auto'")
  arguments = parser.parse_args(argv)
  if arguments.runs < 1:
    raise ConfigError("--runs", arguments.runs, "must be at least 1")
  config = read_config(arguments.config)
  machine.configure_jax(machine.cores(), x64=config.model.get("dtype") == "float64")
  timings = measure(config, runs=arguments.runs, say=lambda text: print(text, file=sys.stderr))
  print(table(timings))
  if arguments.record:
    record(timings, forms.own_table())
    print(f"kept in {forms.own_table()}")
  return 0
