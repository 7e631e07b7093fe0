"""The entries of a comparison: runs that differ only in their seeds are one entry."""

from collections.abc import Iterable, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

from kdjax.report import table
from kdjax.report.table import RunRecord
from kdjax.training import run_folder

SEEDS = ("seed", "replicas")  # config keys that decide a run's seeds alone
WORDS = 40  # characters of a config's value in an entry's name


class Entry(NamedTuple):
  """Runs that differ only in their seeds."""

  name: str
  results: tuple[dict[str, Any], ...]  # one per seed, ascending, with `bytes`
  folders: tuple[Path, ...]  # the folders of its runs

  @property
  def seeds(self) -> list[int]:
    """The seeds of its results."""
    return [result["seed"] for result in self.results]


class _Group(NamedTuple):
  """An entry that is still being collected."""

  name: str
  config: dict[str, Any]  # flat, without keys that do not make another experiment
  folders: list[Path]
  results: list[dict[str, Any]]


def folders(places: Iterable[str | Path]) -> list[Path]:
  """The places, without files next to folders: `runs/sweep/*` also names the sweep's own files."""
  paths = list(map(Path, places))
  has_folder = any(path.is_dir() for path in paths)
  return [path for path in paths if not (has_folder and path.is_file())]


def read(places: Iterable[str | Path]) -> list[RunRecord]:
  """Reads the runs of run folders, with their baselines, and of folders of run folders; each once.

  Unfinished runs are allowed next to finished ones, since a sweep may hold both.

  Raises:
    ConfigError: for a place without a run, or if no run has finished.
  """
  runs: dict[Path, RunRecord] = {}
  unfinished: list[Path] = []
  for place in folders(places):
    inside = sorted(path.parent for path in place.glob(f"*/{run_folder.CONFIG}"))
    run_folders = [place] if (place / run_folder.CONFIG).exists() else inside
    group = [run for folder in run_folders for run in table.read_runs(folder)]
    if not any(run.summary and run.record for run in group):
      if not any(run.record for run in group):
        raise table.not_finished(place)
      unfinished.append(place)
    for run in group:
      runs.setdefault(run.folder, run)
  if unfinished and not any(run.summary and run.record for run in runs.values()):
    raise table.not_finished(unfinished[0])
  return list(runs.values())


def entries(runs: Sequence[RunRecord]) -> list[Entry]:
  """The entries of the finished runs, each under a name of its own."""
  groups: list[_Group] = []
  for run in runs:
    found = _results(run)
    if not found:
      continue
    single = _Group(run.name, _config(run), [run.folder], found)
    same = next((group for group in groups if _belongs(single, group)), None)
    if same:
      same.results.extend(found)
      same.folders.append(run.folder)
    else:
      groups.append(single)
  return [
    Entry(name, tuple(sorted(group.results, key=itemgetter("seed"))), tuple(group.folders))
    for name, group in zip(_names(groups), groups, strict=True)
  ]


def _belongs(one: _Group, other: _Group) -> bool:
  """Whether two groups differ in all seeds and in nothing else; a repeated run is two entries."""
  seeds = [{result["seed"] for result in group.results} for group in (one, other)]
  return (one.name, one.config) == (other.name, other.config) and not seeds[0] & seeds[1]


def _results(run: RunRecord) -> list[dict[str, Any]]:
  """The results of every replica, each with its share of the bytes sent."""
  found = table.results(run)
  sent = sum((run.summary or {}).get("bytes_sent", {}).values())
  return [result | {"bytes": sent / len(found)} for result in found]


def _config(run: RunRecord) -> dict[str, Any]:
  """The part of a run's config that makes the experiment: without seeds, speed and comparisons."""
  from kdjax.config import SAME_NUMBERS, flat

  free = (*SEEDS, *SAME_NUMBERS)
  config = flat(run.record.get("config", {}))
  return {key: value for key, value in config.items() if key.split(".")[0] not in free}


def _names(groups: Sequence[_Group]) -> list[str]:
  """The method's name; if several groups share it, with the keys that differ or the folder."""
  names = []
  for group in groups:
    same = [other.config for other in groups if other.name == group.name]
    keys = sorted({key for config in same for key in config})
    differ = [key for key in keys if any(c.get(key) != same[0].get(key) for c in same)]
    words = [f"{key}={_short(str(group.config.get(key)))}" for key in differ]
    names.append(" ".join([group.name, *words]))
  return [
    f"{name} ({group.folders[0]})" if names.count(name) > 1 else name
    for name, group in zip(names, groups, strict=True)
  ]


def _short(text):
  return text if len(text) <= WORDS else f"{text[: WORDS - 3]}..."
