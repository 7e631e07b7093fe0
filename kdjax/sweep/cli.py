"""`kdjax sweep`: a grid of settings and seeds, one run after another, resumable run by run.

  kdjax sweep --config=mhd_digits --workdir=runs/teachers \
    --grid algo.teachers=1,2,4 --seeds=5

Every point is a run in a folder below the sweep's, trained by a process of its own. `sweep.json`
declares the sweep before any run begins, and lists the runs that failed. The same command resumes,
also with more values or seeds. Exit codes: 0 all done; 42 stopped; 1 a run failed; 2 bad input.
"""

import argparse
import contextlib
import functools
import json
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdjax.ending import DONE, FAULT, STOPPED
from kdjax.sweep import grid
from kdjax.sweep.grid import Point, Sweep
from kdjax.types import ConfigError

if TYPE_CHECKING:
  from kdjax.training.progress import Progress

LOG = "log.txt"
POLL_SECONDS = 0.2
TAIL = 1 << 16  # bytes that hold a whole line of metrics
PASSED = re.compile(r"--(config\.[\w.]+|devices)=.*", re.DOTALL)  # flags that go to every run


def work(point: Point) -> int:
  """Training steps of a run and its baselines; 0 if only the run itself knows its length."""
  return point.config["steps"] * (1 + len(point.config["compare"]))


def steps_done(point: Point) -> int:
  """Training steps that a run and its baselines have logged."""
  logs = [point.folder / "metrics.jsonl", *point.folder.glob("*/metrics.jsonl")]
  return min(work(point), sum(_last_step(path) for path in logs))


def _last_step(path: Path) -> int:
  """The step of the last complete line of a metrics file, read from its end."""
  if not path.exists():
    return 0
  with open(path, "rb") as file:
    file.seek(max(0, path.stat().st_size - TAIL))
    lines = file.read().rpartition(b"\n")[0].splitlines()
  with contextlib.suppress(ValueError):  # a line longer than what was read
    return json.loads(lines[-1])["step"] if lines else 0
  return 0


class Stop:
  """Notes SIGINT and SIGTERM, which `run_point` then sends to the run under way.

  Inside, the signals do not end this process, which has to wait for the run (see `kdjax.ending`).
  """

  def __init__(self) -> None:
    """Begins without a signal."""
    self.signals: list[int] = []

  def __enter__(self) -> "Stop":
    numbers = (signal.SIGINT, signal.SIGTERM)
    note = lambda number, frame: self.signals.append(number)
    self._before = {number: signal.signal(number, note) for number in numbers}
    self._pipe = signal.set_wakeup_fd(-1)
    return self

  def __exit__(self, *exception: object) -> None:
    signal.set_wakeup_fd(self._pipe, warn_on_full_buffer=False)
    for number, handler in self._before.items():
      signal.signal(number, handler)


def run_point(sweep: Sweep, point: Point, stop: Stop, tick: Callable[[], None]) -> int:
  """Trains one point in a process of its own, logged in FOLDER/log.txt; returns its exit code."""
  point.folder.mkdir(parents=True, exist_ok=True)
  command = [sys.executable, "-m", "kdjax.main", f"--config={sweep.config}"]
  command += [f"--workdir={point.folder}", *sweep.flags, *grid.as_flags(point.settings)]
  with open(point.folder / LOG, "ab") as log:
    log.write(f"$ {shlex.join(command)}\n".encode())
    log.flush()
    child = subprocess.Popen(
      command,
      stdin=subprocess.DEVNULL,
      stdout=log,
      stderr=subprocess.STDOUT,
      process_group=0,  # a terminal's Ctrl-C comes once, through us
    )
    handed_on = 0
    while child.poll() is None:
      for number in stop.signals[handed_on:]:
        child.send_signal(number)
        handed_on += 1
      tick()
      time.sleep(POLL_SECONDS)
  return child.returncode


def last_line(path: Path) -> str:
  """The last line of a log that has text."""
  lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
  return next((line.strip() for line in reversed(lines) if line.strip()), "")


def run(sweep: Sweep) -> int:
  """Trains what is not finished, shows a bar over all of it and a table; returns the exit code.

  Raises:
    ConfigError: for a grid that cannot work, or a folder that another sweep is at work in.
  """
  from kdjax.training import lock

  found = grid.points(sweep)
  sweep.workdir.mkdir(parents=True, exist_ok=True)
  with lock.held_for_runs(sweep.workdir), Stop() as stop:
    failed = grid.declare(sweep)
    code = _train(sweep, found, failed, stop)
  if code == STOPPED:
    print("Stopped; the same command goes on.", file=sys.stderr)
    return code
  print(results(found))
  for name, how in failed.items():
    print(f"failed ({how['code']}): {name}: {how['last']}", file=sys.stderr)
  return FAULT if failed else DONE


def finished(point: Point) -> bool:
  """Whether a run and its baselines have finished."""
  names = ("", *point.config["compare"])
  return all((point.folder / name / "summary.json").exists() for name in names)


def _train(sweep: Sweep, found: list[Point], failed: dict[str, Any], stop: Stop) -> int:
  """Runs one point after another; notes the runs that fail in `failed` and in sweep.json."""
  from kdjax.training.progress import Progress

  sizes = _sizes(found)
  done = [point.folder for point in found if finished(point)]
  past = sum(sizes[folder] for folder in done)
  with Progress(f"sweep of {len(found)} runs", sum(sizes.values())) as bar:
    for point in found:
      if point.folder in done:
        continue
      numbers = {"done": len(done), "failed": len(failed)}
      show = functools.partial(_show, bar, point, past, sizes[point.folder], **numbers)
      code = STOPPED if stop.signals else run_point(sweep, point, stop, show)
      if stop.signals or code == STOPPED:
        return STOPPED
      past += sizes[point.folder]
      failed.pop(point.folder.name, None)
      if code == DONE:
        done.append(point.folder)
      else:
        failed[point.folder.name] = {"code": code, "last": last_line(point.folder / LOG)}
        print(f"failed: {point.folder.name}, see {point.folder / LOG}", file=sys.stderr)
      grid.note_failed(sweep, failed)
    bar.update(past, done=len(done), failed=len(failed))
  return DONE


def _sizes(found: Sequence[Point]) -> dict[Path, int]:
  """Each run's part of the bar: its steps, or 1 for all if some are counted in rounds."""
  known = all(work(point) for point in found)
  return {point.folder: work(point) if known else 1 for point in found}


def _show(bar: "Progress", point: Point, past: int, size: int, **numbers: int) -> None:
  """Moves the bar to the position of the run under way, short of the run's end."""
  bar.update(past + min(steps_done(point), size - 1), **numbers)


def results(found: Sequence[Point]) -> str:
  """The table of the finished runs over seeds; '' if there are none."""
  from kdjax.report import compare, entries

  folders = [point.folder for point in found if (point.folder / "summary.json").exists()]
  return compare.text(compare.rows(entries.read(folders))) if folders else ""


def sweep_cli(argv: Sequence[str]) -> int:
  """`kdjax sweep ...`; returns the exit code.

  Args:
    argv: the words after `sweep`.

  Raises:
    ConfigError: for a command line, a grid or a folder that cannot work.
  """
  options, rest = _parser().parse_known_args(argv)
  sweep = _asked(options, rest)
  if not options.dry_run:
    return run(sweep)
  for point in grid.points(sweep):
    print(f"{point.folder}{'  finished' if finished(point) else ''}")
  return DONE


def _asked(options: argparse.Namespace, rest: Sequence[str]) -> Sweep:
  """The sweep that the command line describes."""
  from kdjax.training import run_folder

  workdir = Path(options.workdir)
  if run_folder.is_begun(workdir):  # the sweep's runs would pass for its baselines
    hint = "holds a run: a sweep needs a folder of its own"
    raise ConfigError("--workdir", str(workdir), hint)
  for word in rest:
    if not PASSED.fullmatch(word):
      raise ConfigError("arguments", word, "runs take --config.KEY=VALUE and --devices=N")
  if options.seeds < 0:
    raise ConfigError("--seeds", options.seeds, "must be at least 1")
  if options.fold and not options.seeds:
    raise ConfigError("--fold", True, "needs --seeds=N")
  values: dict[str, list[Any]] = {}
  for key, more in map(grid.parse_grid, options.grid):
    values[key] = values.get(key, []) + more
  return Sweep(options.config, workdir, values, options.seeds, options.fold, tuple(rest))


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog="kdjax sweep",
    description="A grid of settings and seeds, resumable run by run.",
    epilog="--config.KEY=VALUE and --devices=N go to every run. --config.compare='()' leaves out "
    "the config's baselines, which every combination would train again.",
    allow_abbrev=False,
  )
  parser.add_argument("--config", required=True, help="an experiment's name or file")
  parser.add_argument("--workdir", required=True, help="the sweep's folder")
  parser.add_argument(
    "--grid", action="append", default=[], metavar="KEY=V1,V2", help="repeatable: the product"
  )
  parser.add_argument("--seeds", type=int, default=0, help="config.seed and those after it")
  parser.add_argument("--fold", action="store_true", help="seeds side by side in one run")
  parser.add_argument("--dry-run", action="store_true", help="list the runs, and stop")
  return parser
