"""The runs of a sweep, and the declaration in its folder."""

import ast
import hashlib
import itertools
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kdjax import config as configs
from kdjax.checks import validate
from kdjax.config import LENGTH, differences, plain
from kdjax.core import files
from kdjax.types import ConfigError

DECLARATION = "sweep.json"
LONG = 100  # characters of a run's name


class Sweep(NamedTuple):
  """The arguments of a command line."""

  config: str
  workdir: Path
  grid: dict[str, list[Any]]  # dotted key: values
  seeds: int
  fold: bool  # seeds side by side in one run, not a run each
  flags: tuple[str, ...]  # for every run


class Point(NamedTuple):
  """One run of a sweep."""

  folder: Path
  settings: dict[str, Any]  # its values of the grid, and its seed
  config: dict[str, Any]  # its whole config


def parse_grid(text: str) -> tuple[str, list[Any]]:
  """The key and the values of a grid's entry, such as 'algo.teachers=1,2'.

  Args:
    text: KEY=V1,V2,...; a value is a Python literal, or otherwise a string. A comma within
      brackets, braces or quotes belongs to the value.

  Raises:
    ConfigError: if there is no key or no value.
  """
  key, _, values = text.partition("=")
  if not key or not values:
    raise ConfigError("--grid", text, "write KEY=VALUE,VALUE, such as algo.teachers=1,2,4")
  return key, [_literal(part) for part in _split(values)]


def _split(text: str) -> list[str]:
  """The parts between commas outside brackets and quotes."""
  parts, depth, quote = [""], 0, ""
  for c in text:
    if quote:
      quote = "" if c == quote else quote
    elif c in "\"'":
      quote = c
    else:
      depth += (c in "([{") - (c in ")]}")
    if c == "," and not depth and not quote:
      parts.append("")
    else:
      parts[-1] += c
  return parts


def _literal(text: str) -> Any:
  try:
    return ast.literal_eval(text.strip())
  except (ValueError, SyntaxError):
    return text.strip()


def read_config(name: str, flags: Sequence[str]) -> dict[str, Any]:
  """A config's plain values with `--config.key=value` flags over them, as a run would read them.

  Raises:
    ConfigError: for a config that does not exist, or values that no run can have.
  """
  from absl import flags as absl_flags
  from ml_collections import config_flags

  config, values = configs.read_config(name), absl_flags.FlagValues()
  line = ["sweep", *(flag for flag in flags if flag.startswith("--config."))]
  try:
    config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=line)
    values(line)
  except (
    absl_flags.Error,
    LookupError,
    AttributeError,
    TypeError,
    ValueError,
    OverflowError,
  ) as error:
    configs.check_flags(config, line)
    raise ConfigError("--config", " ".join([name, *line[1:]]), str(error)) from None
  whole = plain(config)
  validate(whole)
  return whole


def points(sweep: Sweep) -> list[Point]:
  """All runs of a sweep, the last key and the seeds varying fastest; equal configs occur once.

  Raises:
    ConfigError: for a setting that the config's schema does not have, or seeds that overlap.
  """
  base = read_config(sweep.config, sweep.flags)
  own = ("seed", "replicas") if sweep.fold else ("seed",)
  for key in own if sweep.seeds else ():
    if key in sweep.grid:
      raise ConfigError("--grid", key, "--seeds sets it")
  found: dict[str, Point] = {}
  for values in itertools.product(*sweep.grid.values()):
    for seeds in _seed_settings(sweep, base["seed"]):
      settings = dict(zip(sweep.grid, values, strict=True)) | seeds
      config = read_config(sweep.config, [*sweep.flags, *as_flags(settings)])
      if sweep.seeds > 1 and not sweep.fold and config["replicas"] > 1:
        why = f"with replicas = {config['replicas']} the runs' seeds would overlap"
        raise ConfigError("--seeds", sweep.seeds, f"{why}: --fold, or --config.replicas=1")
      folder = sweep.workdir / run_name(settings)
      found.setdefault(json.dumps(config, sort_keys=True), Point(folder, settings, config))
  return list(found.values())


def _seed_settings(sweep: Sweep, base: int) -> Iterator[dict[str, int]]:
  """Yields the seed settings of each run; one empty setting without --seeds."""
  if not sweep.seeds:
    yield {}
  elif sweep.fold:
    yield {"replicas": sweep.seeds}
  else:
    yield from ({"seed": base + i} for i in range(sweep.seeds))


def as_flags(settings: dict[str, Any]) -> list[str]:
  """Settings as flags of a run."""
  text = lambda value: value if isinstance(value, str) else repr(value)
  return [f"--config.{key}={text(value)}" for key, value in settings.items()]


def run_name(settings: dict[str, Any]) -> str:
  """A run's folder: its settings by key, the seed last; a long name ends in a hash."""
  keys = sorted(settings, key=lambda key: (key in ("seed", "replicas"), key))
  return folder_name("_".join(f"{key}={settings[key]}" for key in keys) or "run")


def folder_name(whole: str) -> str:
  """A text as a folder's name: unchanged if it can be one, otherwise shortened, with a hash."""
  name = re.sub(r"[^\w.=+-]+", "-", whole)
  if name == whole and len(name) <= LONG:
    return name
  return f"{name[:LONG]}-{hashlib.sha256(whole.encode()).hexdigest()[:8]}"


def declare(sweep: Sweep) -> dict[str, Any]:
  """Writes sweep.json, or checks that the folder's is this sweep or a part of it.

  Returns:
    The failed runs of earlier calls, {name: {code, last}}.

  Raises:
    ConfigError: if the folder holds another sweep; names the key that differs.
  """
  path = sweep.workdir / DECLARATION
  new = {
    "grid": files.plain(sweep.grid),
    "seeds": sweep.seeds,
    "fold": sweep.fold,
    "config": read_config(sweep.config, sweep.flags),
  }
  old = files.read_json(path) if path.exists() else None
  if old is not None:
    _check_same(old, new, sweep.workdir)
  sweep.workdir.mkdir(parents=True, exist_ok=True)
  failed = old["failed"] if old else {}
  files.write_json(path, new | {"failed": failed})
  return failed


def note_failed(sweep: Sweep, failed: dict[str, Any]) -> None:
  """Writes the failed runs to sweep.json, {name: {code, last}}."""
  path = sweep.workdir / DECLARATION
  files.write_json(path, files.read_json(path) | {"failed": failed})


def _check_same(old: dict[str, Any], new: dict[str, Any], workdir: Path) -> None:
  """Raises ConfigError unless `new` differs from `old` only by further values and seeds."""

  def refuse(key: str, value: Any, was: Any) -> None:
    hint = f"{workdir} was begun with {was!r}; use another --workdir, that value, or add to it"
    raise ConfigError(key, value, hint)

  for key, was, now in differences(old["config"], new["config"]):
    refuse(key, now, was)
  for key in LENGTH:  # a run may be extended, a sweep's runs have one length
    if old["config"][key] != new["config"][key]:
      refuse(key, new["config"][key], old["config"][key])
  if old["fold"] != new["fold"]:
    refuse("--fold", new["fold"], old["fold"])
  for key in [*old["grid"], *new["grid"]]:
    was, now = old["grid"].get(key), new["grid"].get(key)
    if was is None or now is None or any(value not in now for value in was):
      refuse(f"--grid {key}", now, was)
  if new["seeds"] < old["seeds"] or (new["fold"] and new["seeds"] != old["seeds"]):
    refuse("--seeds", new["seeds"], old["seeds"])
