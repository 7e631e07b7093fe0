"""`kdjax sweep`: a grid over a config and seeds, run after run, each in a folder of its own.

  kdjax sweep --config=mhd_digits --grid algo.teachers=1,2,4 --seeds=5 --workdir=runs/teachers

Stopped at any point, the same command goes on; a run that fails is named, and the rest goes on.
`sweep.json` holds the grid, `logs/` what every run said.
"""

import argparse
import ast
import contextlib
import itertools
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kdjax.config import find_config
from kdjax.core import files
from kdjax.run import Run
from kdjax.types import ConfigError

DONE, FAILED, STOPPED = 0, 1, 42


class Point(NamedTuple):
  """One run of a sweep."""

  name: str  # its folder
  values: dict[str, Any]  # of the grid's keys
  flags: tuple[str, ...]  # of the command line


class Outcome(NamedTuple):
  """How a run ended."""

  point: Point
  code: int
  words: str  # the last line that it said


def parse_grid(entries: list[str]) -> dict[str, list[Any]]:
  """{key: values} of 'KEY=V1,V2': Python literals, or text where they are none.

  Raises:
    ConfigError: for an entry without a key or a value.
  """
  grid = {}
  for entry in entries:
    key, equals, text = entry.partition("=")
    values = [_literal(word) for word in _split(text)]
    if not (key and equals and values):
      raise ConfigError("--grid", entry, "KEY=VALUE,VALUE, such as algo.teachers=1,2")
    grid[key.removeprefix("config.")] = list({repr(v): v for v in values}.values())
  return grid


def _split(text):
  """At the commas that stand in no bracket and no quotes."""
  words, depth, quote = [""], 0, ""
  for letter in text:
    if quote:
      quote = "" if letter == quote else quote
    elif letter in "'\"":
      quote = letter
    else:
      depth += (letter in "([{") - (letter in ")]}")
    if letter == "," and not depth and not quote:
      words.append("")
    else:
      words[-1] += letter
  return [w for w in words if w]


def _literal(word):
  try:
    return ast.literal_eval(word)
  except (ValueError, SyntaxError):
    return word


def points(grid: dict[str, list[Any]], seeds: int, first: int, *, fold: bool) -> list[Point]:
  """All runs: every combination of the grid's values, with every seed.

  Args:
    grid: {key: values}.
    seeds: how many.
    first: the first one.
    fold: whether the seeds of a combination run side by side, as replicas of one run.
  """
  out = []
  for values in itertools.product(*grid.values()):
    chosen = dict(zip(grid, values, strict=True))
    if fold:
      runs = [dict(seed=first, replicas=seeds)]
    else:
      runs = [dict(seed=first + i) for i in range(seeds)]
    for own in runs:
      flags = tuple(f"--config.{k}={v}" for k, v in (chosen | own).items())
      out.append(Point(_name(chosen | own), chosen, flags))
  return out


def _name(values):
  """A folder's name: what differs, in letters that every file system takes."""
  words = ",".join(f"{key}={value}" for key, value in values.items())
  return "".join(c if c.isalnum() or c in ",=.+-_" else "_" for c in words)[:200]


def declare(workdir: Path, config: str, grid: dict[str, list[Any]], flags: list[str]) -> None:
  """Writes what a folder is for; a grid may grow, nothing else may change.

  Raises:
    ConfigError: where the folder belongs to another sweep.
  """
  path = workdir / "sweep.json"
  new = files.plain({"config": config, "flags": flags, "grid": grid})
  if path.exists():
    old = files.read_json(path)
    for key in ("config", "flags"):
      if old[key] != new[key]:
        hint = f"{workdir} was begun with {key} = {old[key]!r}; use another --workdir"
        raise ConfigError(f"--{key}", new[key], hint)
    if list(old["grid"]) != list(new["grid"]):
      hint = f"{workdir} was begun with the keys {', '.join(old['grid'])}; use another --workdir"
      raise ConfigError("--grid", list(new["grid"]), hint)
    for key, values in old["grid"].items():
      values += [v for v in new["grid"][key] if v not in values]
    new = old
  workdir.mkdir(parents=True, exist_ok=True)
  files.write_json(path, new)


class Stop:
  """SIGTERM and SIGINT go to the run under way, which saves; the sweep ends after it."""

  def __init__(self):
    """Nothing has come yet."""
    self.asked, self.child = False, None

  def __call__(self, number, frame) -> None:
    """A signal has come."""
    self.asked = True
    if self.child is not None and self.child.poll() is None:
      self.child.send_signal(signal.SIGTERM)

  @contextlib.contextmanager
  def listening(self) -> Iterator[None]:
    """Inside, signals come here."""
    before = {n: signal.signal(n, self) for n in (signal.SIGTERM, signal.SIGINT)}
    try:
      yield
    finally:
      for number, handler in before.items():
        signal.signal(number, handler)


def run(point: Point, workdir: Path, config: str, flags: list[str], stop: Stop) -> Outcome:
  """Runs one point to its end, or goes on with it; one that has finished costs nothing."""
  folder = workdir / point.name
  if (folder / "summary.json").exists():
    return Outcome(point, DONE, "finished before")
  log = workdir / "logs" / f"{point.name}.txt"
  log.parent.mkdir(exist_ok=True)
  program = [sys.executable, "-m", "kdjax.main", f"--config={config}", f"--workdir={folder}"]
  with open(log, "ab") as out:
    stop.child = subprocess.Popen(
      [*program, *flags, *point.flags], stdout=out, stderr=out, start_new_session=True
    )
    code = stop.child.wait()
  lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
  return Outcome(point, code, lines[-1] if lines else "it said nothing")


def sweep(
  workdir: Path, config: str, found: list[Point], flags: list[str], stop: Stop
) -> list[Outcome]:
  """Runs all points in turn, with a bar over all of them; ends early where `stop` was asked."""
  outcomes = []
  with stop.listening(), _bar(len(found)) as advance:
    for point in found:
      outcomes.append(run(point, workdir, config, flags, stop))
      advance(outcomes[-1])
      if stop.asked or outcomes[-1].code == STOPPED:
        break
  return outcomes


@contextlib.contextmanager
def _bar(total):
  """A function to call with every outcome: a bar on a terminal, a line a run elsewhere."""
  from rich.console import Console
  from rich.progress import Progress

  console, began, done = Console(stderr=True), time.monotonic(), 0
  with Progress(console=console, disable=not console.is_interactive) as bar:
    task = bar.add_task("sweep", total=total)

    def advance(outcome):
      nonlocal done
      done += 1
      left = (time.monotonic() - began) / done * (total - done)
      ended = {DONE: "done", STOPPED: "stopped"}.get(outcome.code, f"failed: {outcome.words}")
      bar.update(task, advance=1, description=outcome.point.name)
      place = f"{done}/{total}  {outcome.point.name}  {ended}  {left / 60:.0f} min left"
      if outcome.code or not console.is_interactive:
        console.print(place, soft_wrap=True, markup=False, highlight=False)

    yield advance


def table(outcomes: list[Outcome], workdir: Path) -> str:
  """Shared accuracy of every combination, mean and standard deviation over its seeds, markdown."""
  found: dict[tuple, dict[str, list[float]]] = {}
  for outcome in outcomes:
    if outcome.code != DONE:
      continue
    heads = found.setdefault(tuple(map(str, outcome.point.values.values())), {})
    for head, means in _by_seed(Run(workdir / outcome.point.name)).items():
      heads.setdefault(head, []).extend(means)
  keys = list(outcomes[0].point.values)
  lines = ["| " + " | ".join((*keys, "head", "seeds", "shared %")) + " |"]
  lines.append("|" + " --- |" * (len(keys) + 3))
  for values, heads in found.items():
    for head, means in heads.items():
      numbers = 100 * np.array(means)
      spread = f" ± {numbers.std(ddof=1):.1f}" if len(numbers) > 1 else ""
      cells = (*values, head, str(len(numbers)), f"{numbers.mean():.1f}{spread}")
      lines.append("| " + " | ".join(cells) + " |")
  return "\n".join(lines)


def _by_seed(run):
  """{head: [mean over clients, one a seed]}."""
  by_head: dict[str, dict[int, list[float]]] = {}
  for row in run.results():
    if "shared_accuracy" in row:
      seeds = by_head.setdefault(row["head"], {})
      seeds.setdefault(row["seed"], []).append(row["shared_accuracy"])
  return {head: [float(np.mean(v)) for v in seeds.values()] for head, seeds in by_head.items()}


def parser() -> argparse.ArgumentParser:
  """The command line; `--config.KEY=VALUE` flags go to all runs."""
  out = argparse.ArgumentParser("kdjax sweep", description=__doc__.partition("\n")[0])
  out.add_argument("--config", required=True, help="a config's name or file")
  out.add_argument("--workdir", required=True, help="the folder of all runs")
  out.add_argument("--grid", action="append", default=[], metavar="KEY=VALUE,VALUE")
  out.add_argument("--seeds", type=int, default=1, help="how many a combination")
  out.add_argument("--first-seed", type=int, default=0)
  out.add_argument("--fold", action="store_true", help="seeds side by side, as replicas of a run")
  out.add_argument("--dry-run", action="store_true", help="name the runs, and stop")
  return out


def sweep_cli(argv: list[str]) -> int:
  """`kdjax sweep`; returns the exit code: 0, 1 where a run failed, 42 where it was stopped."""
  arguments, flags = parser().parse_known_args(argv)
  for word in flags:
    if not word.startswith(("--config.", "--devices")):
      raise ConfigError("arguments", word, "flags of the runs begin with --config.")
  if arguments.seeds < 1:
    raise ConfigError("--seeds", arguments.seeds, "must be at least 1")
  find_config(arguments.config)
  grid, workdir = parse_grid(arguments.grid), Path(arguments.workdir)
  found = points(grid, arguments.seeds, arguments.first_seed, fold=arguments.fold)
  if arguments.dry_run:
    print("\n".join(point.name for point in found))
    return DONE
  declare(workdir, arguments.config, grid, flags)
  outcomes = sweep(workdir, arguments.config, found, flags, stop := Stop())
  print(table(outcomes, workdir))
  failed = [o for o in outcomes if o.code not in (DONE, STOPPED)]
  for outcome in failed:
    print(f"failed: {outcome.point.name}: {outcome.words}", file=sys.stderr)
  if stop.asked or outcomes[-1].code == STOPPED:
    print("Stopped; the same command goes on.", file=sys.stderr)
    return STOPPED
  return FAILED if failed else DONE
