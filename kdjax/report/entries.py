"""Runs as a comparison takes them: those that differ in their seeds alone are one entry."""

from collections.abc import Iterable, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

from kdjax.report import table
from kdjax.report.table import RunRecord
from kdjax.training import run_folder

SEEDS = ("seed", "replicas")  # config keys that say which seeds a run has, and nothing else
WORDS = 40  # characters of a config's value in an entry's name


class Entry(NamedTuple):
  """Runs that differ in nothing but their seeds."""

  name: str
  results: tuple[dict[str, Any], ...]  # one a seed, ascending; `bytes` with them
  folders: tuple[Path, ...]  # of its runs

  @property
  def seeds(self) -> list[int]:
    """The seeds of its results."""
    return [result["seed"] for result in self.results]


class _Group(NamedTuple):
  """An entry on its way."""

  name: str
  config: dict[str, Any]  # flat, without what does not make another experiment
  folders: list[Path]
  results: list[dict[str, Any]]


def folders(places: Iterable[str | Path]) -> list[Path]:
  """The places, less the files beside folders: `runs/sweep/*` names the sweep's own too."""
  found = list(map(Path, places))
  beside = any(place.is_dir() for place in found)
  return [place for place in found if not (beside and place.is_file())]


def read(places: Iterable[str | Path]) -> list[RunRecord]:
  """All runs of run folders, their baselines with them, and of folders of run folders; each once.

  A place whose run has not finished is no obstacle beside one that has: a sweep may hold both.

  Raises:
    ConfigError: for a place without a run, or where none of all has finished.
  """
  found: dict[Path, RunRecord] = {}
  waiting: list[Path] = []
  for place in folders(places):
    inside = sorted(path.parent for path in place.glob(f"*/{run_folder.CONFIG}"))
    here = [place] if (place / run_folder.CONFIG).exists() else inside
    group = [run for folder in here for run in table.read_runs(folder)]
    if not any(run.summary and run.record for run in group):
      if not any(run.record for run in group):
        raise table.not_finished(place)
      waiting.append(place)
    for run in group:
      found.setdefault(run.folder, run)
  if waiting and not any(run.summary and run.record for run in found.values()):
    raise table.not_finished(waiting[0])
  return list(found.values())


def entries(runs: Sequence[RunRecord]) -> list[Entry]:
  """The finished runs, those that differ in their seeds alone together, each under its own name."""
  groups: list[_Group] = []
  for run in runs:
    found = _results(run)
    if not found:
      continue
    fresh = _Group(run.name, _config(run), [run.folder], found)
    home = next((group for group in groups if _belongs(fresh, group)), None)
    if home:
      home.results.extend(found)
      home.folders.append(run.folder)
    else:
      groups.append(fresh)
  return [
    Entry(name, tuple(sorted(group.results, key=itemgetter("seed"))), tuple(group.folders))
    for name, group in zip(_names(groups), groups, strict=True)
  ]


def _belongs(one: _Group, other: _Group) -> bool:
  """Whether two differ in their seeds, and in nothing else; a run made twice is two entries."""
  seeds = [{result["seed"] for result in group.results} for group in (one, other)]
  return (one.name, one.config) == (other.name, other.config) and not seeds[0] & seeds[1]


def _results(run: RunRecord) -> list[dict[str, Any]]:
  """The results of every replica, each with its share of the bytes sent."""
  found = table.results(run)
  sent = sum((run.summary or {}).get("bytes_sent", {}).values())
  return [result | {"bytes": sent / len(found)} for result in found]


def _config(run: RunRecord) -> dict[str, Any]:
  """What makes a run another experiment: its flat config without seeds, speed and comparisons."""
  from kdjax.config import SAME_NUMBERS, flat

  free = (*SEEDS, *SAME_NUMBERS)
  config = flat(run.record.get("config", {}))
  return {key: value for key, value in config.items() if key.split(".")[0] not in free}


def _names(groups: Sequence[_Group]) -> list[str]:
  """The method's name; where several share it, with what differs, or with the folder."""
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
