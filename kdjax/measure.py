"""`kdjax measure`: times the forms in which this machine can run a config, for `auto` to choose.

The forms (local map, how convolutions are written, whether clients are spread over host devices)
change no result beyond rounding. They are timed in turn, a block of steps each, so that a slower
minute of the machine affects all of them. The median over blocks counts.
"""

import argparse
import itertools
import sys
from pathlib import Path
from typing import Any

import jax

from kdjax import experiment, forms, layout
from kdjax.config import plain, read_config
from kdjax.core import machine
from kdjax.core.mapping import MAPS
from kdjax.data.dataset import Data
from kdjax.forms import Form, Load, Measurement
from kdjax.hardware import target
from kdjax.hardware.target import GIB
from kdjax.models.conv import LOWERINGS
from kdjax.timing import Bounds, Shared, Timing, compiled, timed, words
from kdjax.types import ConfigError

UNROLLED = 8  # the most clients on an accelerator for a copy each, which compilers take long for
# The bounds of a contest before a run's first step: some minutes, where the run takes hours.
CONTEST = Bounds(compiling=300.0, timing=60.0, most=3, runs=5)


def candidates(load: Load, sizes: list[int]) -> list[Form]:
  """The forms to try: every map and lowering, on one host device and on as many as are useful.

  The form of a run without measurements comes first, then plain convolutions. Among equals, the
  form that compiles sooner comes first.
  """
  backend = machine.backend()
  spread = layout.host_devices(sizes, len(jax.devices())) if backend == "cpu" else 1
  lowerings = LOWERINGS if load.convolves else LOWERINGS[:1]
  tried = [Form(*f) for f in itertools.product(MAPS, lowerings, sorted({False, spread > 1}))]
  if backend != "cpu" and load.clients > UNROLLED:
    tried = [f for f in tried if f.local_map != "unroll"]
  # In a loop, or with a copy per client, `split` is the same as `direct`.
  tried = [f for f in tried if f.conv != "split" or f.local_map == "vmap"]
  usual = forms.unmeasured(backend, load)
  return sorted(
    tried, key=lambda f: (f != usual, f.conv != "direct", forms.SOONER.index(f.local_map))
  )


def measure(config: Any, bounds: Bounds, *, say=lambda text: None) -> list[Timing]:
  """Times the forms of a config's first training phase, the fastest first.

  Args:
    config: as in `experiment.build`; its data are read.
    bounds: Bounds.
    say: called with a line of text when a form is compiled and when it is timed.

  Raises:
    ConfigError: if no form fits into the device's memory.
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
  """Times the cheapest forms on a kind of device that `auto` does not know, and records the times.

  The cost of a form comes from its compiled program (`hardware/cost.py`); its time decides. If no
  file of `hardware/targets` describes the device, the first forms are timed. Every time is recorded
  as soon as it is measured.

  There is no contest on a CPU, with `mesh.map` or `mesh.conv` set, if no form fits into the device,
  if rows of this device are recorded for half to twice the load, or if nothing can be recorded.

  Args:
    config, bounds, say: as in `measure`.
    data: the config's data, if they are read already.

  Returns:
    The timings, the fastest first; empty if there was no contest.
  """
  config = plain(config)
  choices = config["mesh"]["map"], config["mesh"]["conv"]
  if machine.backend() == "cpu" or choices != ("auto", "auto"):
    return []
  first = experiment.build(config, data=data)
  if forms.knows(forms.measured(), machine.backend(), layout.device(), _load(config, first)):
    return []
  say(f"no form was measured on {layout.device()} for this load; mesh.map overrides")
  if reason := _unwritable():
    say(f"none is timed: {reason}")
    return []
  keep = lambda timing: record([timing], forms.own_table())
  timings = _compared(config, first, bounds, say, keep)
  forms.measured.cache_clear()
  return timings


def _compared(config, first, bounds, say, keep):
  """The timings of the cheapest forms; empty if none fits."""
  load = _load(config, first)
  shared = Shared()
  tried = candidates(load, [len(c.ids) for c in first.env.cohorts])
  if target.of(jax.devices()[0]) is None:  # there are no prices to choose by
    tried = tried[: bounds.most]
  ready = compiled(config, first, tried, shared, bounds.compiling, say=say)
  return timed(ready[: bounds.most], load, shared, bounds, say=say, keep=keep)


def _load(config, built):
  devices = list(built.env.mesh.devices.flat)
  return layout.load(config, built.env.cohorts, built.env.task.image, built.env.dtype, devices)


def _unwritable():
  """Why the user's own table cannot be written; '': it can."""
  path = forms.own_table()
  try:
    forms.keep((), path)
  except OSError as error:
    return f"{path} cannot be written ({error.strerror}); XDG_CACHE_HOME names another folder"
  return ""


def record(timings: list[Timing], path: Path) -> None:
  """Records measurements in the user's own table, which `auto` reads."""
  backend = machine.backend()
  device = layout.device()
  rows = [Measurement(backend, device, t.load, t.form, 1e3 * t.median) for t in timings]
  forms.keep(rows, path)


def table(timings: list[Timing]) -> str:
  """The timings as plain text, beside the memory and roofline of the compiled programs."""
  best = timings[0].median
  head = ("ms per step", "of best", "roofline ms", "GiB planned", "compile s")
  lines = [f"{'form':28} " + " ".join(f"{name:>12}" for name in head)]
  for t in timings:
    spread = f"{1e3 * t.median:.3g} ± {1e3 * (max(t.seconds) - min(t.seconds)) / 2:.2g}"
    least = "-" if t.roofline is None else f"{1e3 * t.roofline:.3g}"
    cells = (spread, f"{t.median / best:.2f}", least, f"{t.need / GIB:.3f}", f"{t.compiling:.1f}")
    lines.append(f"{words(t.form):28} " + " ".join(f"{cell:>12}" for cell in cells))
  stats = jax.local_devices()[0].memory_stats() or {}
  if "peak_bytes_in_use" in stats:  # over all forms, since nothing resets it
    most, peak = max(t.need for t in timings), stats["peak_bytes_in_use"]
    lines.append(f"memory: at most {most / GIB:.3f} GiB planned, {peak / GIB:.3f} at the peak")
  return "\n".join(lines)


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
  if arguments.record and (reason := _unwritable()):
    raise ConfigError("--record", True, reason)
  config = read_config(arguments.config)
  machine.configure_jax(machine.cores(), x64=config.model.get("dtype") == "float64")
  bounds = Bounds(arguments.budget, arguments.budget, most=sys.maxsize, runs=arguments.runs)
  timings = measure(config, bounds, say=lambda text: print(text, file=sys.stderr, flush=True))
  print(table(timings))
  if arguments.record:
    record(timings, forms.own_table())
    print(f"kept in {forms.own_table()}")
  return 0
