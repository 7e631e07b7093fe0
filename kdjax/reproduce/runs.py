"""The runs that claims and figures need, trained one after another.

An arm of a task trains in blocks of six seeds, folded into one run: WORKDIR/PAPER/TASK/ARM/SEEDS.
Claims share arms, so each arm is trained once. A run that exists already is checked, not repeated.
"""

import signal
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from kdjax.config import LENGTH, differences
from kdjax.core import files
from kdjax.ending import DONE, STOPPED
from kdjax.reproduce import data_sets
from kdjax.reproduce.claims import Claim, Figure, Paper, Task, arms_of
from kdjax.sweep import cli as sweep_cli
from kdjax.sweep import grid
from kdjax.sweep.grid import Point, Sweep
from kdjax.training import run_folder
from kdjax.types import ConfigError

BLOCK = 6  # seeds side by side in one run; it is even, so that two devices share any ensemble


class Asked(NamedTuple):
  """The arguments of the command line."""

  workdir: Path
  size: str
  seeds: int  # a multiple of BLOCK
  data: Path | None  # a folder of data sets


class Run(NamedTuple):
  """One block of seeds of an arm."""

  sweep: Sweep  # with the config's name and the flags of every run
  point: Point
  minutes: float  # its declared duration


class NotHere(NamedTuple):
  """Why an arm cannot be trained here."""

  why: str


def tasks(asked: Asked, paper: Paper, one: Claim | Figure) -> list[Task]:
  """The tasks of a claim or figure at this size."""
  return [paper.task(name) for name in one.tasks.get(asked.size, ())]


def runs(asked: Asked, paper: Paper, task: Task, arm: str) -> list[Run] | NotHere:
  """The blocks of seeds of an arm, in order, or the reason why it cannot be trained here.

  Raises:
    ConfigError: for settings that the config's schema does not have.
  """
  settings = {"compare": ()} | task.settings | paper.arms[arm].on(task.name)
  if task.data:
    source = data_sets.source(task.data, asked.data)
    if source is None:
      return NotHere(f"needs the data set {task.data} in the folder --data")
    settings["source"] = source
  words = paper.arms[arm].words
  name, _, own = task.config.partition(":")
  words = ",".join(filter(None, (own, words)))
  config = f"{name}:{words}" if words else name
  folder = asked.workdir / paper.name / task.name / grid.folder_name(arm)
  blocks = []
  for first in range(0, asked.seeds, BLOCK):
    with_seeds = settings | {"seed": first, "replicas": BLOCK}
    place = folder / f"seeds_{first}-{first + BLOCK - 1}"
    whole = grid.read_config(config, grid.as_flags(with_seeds))
    sweep = Sweep(config, asked.workdir, {}, BLOCK, True, ())
    blocks.append(Run(sweep, Point(place, with_seeds, whole), task.minutes))
  return blocks


def check_same(run: Run) -> None:
  """Refuses a folder that holds another experiment than the declared one.

  Raises:
    ConfigError: names the key that differs.
  """
  path = run.point.folder / run_folder.CONFIG
  if not path.exists():
    return
  old = files.read_json(path)["config"]
  other = differences(old, run.point.config)
  other += [(k, old[k], run.point.config[k]) for k in LENGTH if old[k] != run.point.config[k]]
  for key, was, now in other:
    hint = f"{run.point.folder} was trained with {was!r}: remove it, or use another --workdir"
    raise ConfigError(key, now, hint)


def train(wanted: Iterable[Run], stop: sweep_cli.Stop, tick: Callable[[Run], None]) -> list[Run]:
  """Trains the unfinished runs, one after another; returns those that failed.

  Args:
    wanted: the runs.
    stop: a signal in it ends the work; the run under way is saved.
    tick: called a few times per second with the run under way.
  """
  failed = []
  for run in wanted:
    check_same(run)
    if stop.signals:
      break
    if sweep_cli.finished(run.point):
      continue
    code = sweep_cli.run_point(run.sweep, run.point, stop, lambda r=run: tick(r))  # type: ignore[misc]
    if code == STOPPED and not stop.signals:  # the signal came to the run alone
      stop.signals.append(signal.SIGTERM)
    if stop.signals:
      break
    if code != DONE:
      failed.append(run)
  return failed


def needed(asked: Asked, paper: Paper, task: Task, arms: Iterable[str]) -> list[Run]:
  """All runs of some arms of a task, without arms that cannot be trained here."""
  found = [runs(asked, paper, task, arm) for arm in arms]
  return [run for blocks in found if not isinstance(blocks, NotHere) for run in blocks]


def minutes(asked: Asked, paper: Paper, items: Iterable[Claim | Figure]) -> float:
  """The minutes of the runs of some claims and figures, each run counted once."""
  pairs = {
    (t.name, arm): t for item in items for t in tasks(asked, paper, item) for arm in arms_of(item)
  }
  return sum(task.minutes for task in pairs.values()) * asked.seeds / BLOCK


def own_words(run: Run) -> str:
  """The last line in the log of a failed run."""
  return sweep_cli.last_line(run.point.folder / sweep_cli.LOG)
