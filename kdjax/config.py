"""Configs: how one is found, which keys it has, and how two differ.

`configs/common.py: base` is the schema: every key, its type, its group. A key that is not in the
schema is refused, wherever it was set.
"""

import dataclasses
import difflib
import functools
import importlib.resources
import inspect
import math
import runpy
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from kdjax.plugins import NAMES, find_method, look_in
from kdjax.types import ConfigError

# Keys that change no result of a run.
SAME_NUMBERS = ("mesh", "input", "log_every", "save_every", "evals", "compare", "baselines")
# Keys that may differ between a run and its resumption. The policy for faulty clients may change,
# and which messages arrive at `peers` is a matter of chance anyway.
FREE_ON_RESUME = (*SAME_NUMBERS, "faults", "peers")
# Counts in these groups serve plans only and may differ; the data are compared directly.
INFO, COUNTS = ("source_info", "public_source_info"), ("train", "test")
# The length of a run. A resumption may change it from one number above 0 to another.
LENGTH = ("steps", "rounds")
# Groups whose keys are the arguments of a function or class, not those of the schema.
OPEN = ("model", "augment", "algo", "optim", "evals", "compare", "baselines")
INFINITE = ("skew",)  # keys of numbers that may be infinite, written 'inf' because JSON has no form


def packaged() -> dict[str, Path]:
  """The configs that come with kdjax, by name."""
  folder = Path(str(importlib.resources.files("kdjax"))) / "configs"
  apart = ("__init__", "common", "data")
  return {p.stem: p for p in sorted(folder.glob("*.py")) if p.stem not in apart}


def find_config(name: str) -> tuple[Path, str]:
  """The file that `--config` names, and the words after it: 'mhd_digits:fedavg', 'DIR/my.py'.

  Raises:
    ConfigError: if there is no such file.
  """
  stem, _, words = str(name).partition(":")
  if Path(stem).suffix == ".py" and Path(stem).is_file():
    return Path(stem), words
  known = packaged()
  if stem in known:
    return known[stem], words
  if Path(f"{stem}.py").is_file():  # not taken: a name alone means the same in every folder
    hint = f"write {str(name).replace(stem, f'{stem}.py', 1)}, which is a file here"
    raise ConfigError("--config", name, hint)
  near = difflib.get_close_matches(Path(stem).stem, known, n=1)
  suggestion = f"did you mean {near[0]}? " if near else ""
  hint = f"{suggestion}an existing file, or one of kdjax's own: {', '.join(known)}"
  raise ConfigError("--config", name, hint)


def read_config(name: str) -> ConfigDict:
  """The config of the file that `find_config` finds; it may name modules in the file's folder.

  Raises:
    ConfigError: for a name that does not exist, or words that the file does not know.
  """
  path, words = find_config(name)
  look_in(path.resolve().parent)
  get_config = runpy.run_path(str(path)).get("get_config")
  if get_config is None:
    raise ConfigError("--config", name, f"{path} defines no get_config")
  try:
    return get_config(words) if words else get_config()
  except ValueError as error:
    raise ConfigError("--config", name, str(error)) from None


def configs_cli(argv: list[str]) -> int:
  """`kdjax configs`: prints the names of the packaged experiments, each with its first sentence."""
  if argv and argv not in (["--help"], ["-h"]):
    raise ConfigError("arguments", argv, "kdjax configs takes no arguments")
  for name, path in packaged().items():
    first = path.read_text().split('"""')[1].strip().splitlines()[0]
    print(f"{name:26} {first}")
  return 0


@functools.cache
def schema() -> dict[str, Any]:
  """All keys with their neutral values, as nested dicts."""
  from kdjax.configs import common

  return plain(common.base())


def plain(config: Any) -> Any:
  """A config as nested dicts, lists and scalars, the form of `config.json`."""
  config = config.to_dict() if hasattr(config, "to_dict") else config
  if isinstance(config, dict):
    infinite = {k for k in INFINITE if isinstance(config.get(k), float) and config[k] == math.inf}
    return {k: "inf" if k in infinite else plain(value) for k, value in config.items()}
  return [plain(value) for value in config] if isinstance(config, list | tuple) else config


def tuples(value: Any) -> Any:
  """The same with tuples in place of lists, the form of a config's file."""
  if isinstance(value, dict):
    return {key: tuples(item) for key, item in value.items()}
  return tuple(map(tuples, value)) if isinstance(value, list) else value


def no_key(key: str, known: Iterable[str]) -> str:
  """The hint for a key that is not among the known ones."""
  near = difflib.get_close_matches(str(key), known, n=1)
  if near:
    return f"no such key; did you mean {near[0]}?"
  return f"no such key; there are: {', '.join(known)}"


def place(config: ConfigDict, key: str, value: Any) -> tuple[ConfigDict, str]:
  """The group of a dotted key, and the key's name in it, which may be new.

  Args:
    config: ConfigDict.
    key: such as 'algo.teachers'.
    value: the value to set, for the message.

  Raises:
    ConfigError: for a group that does not exist.
  """
  *groups, name = key.split(".")
  for group in groups:
    if not isinstance(config.get(group), ConfigDict):
      raise ConfigError(key, value, f"there is no group {group!r}")
    config = config[group]
  return config, name


def copied(config: ConfigDict) -> ConfigDict:
  """A copy that may be changed.

  Raises:
    ConfigError: see `check_names`.
  """
  check_names("", config)
  return config.copy_and_resolve_references()


def check_names(key: str, group: Any) -> None:
  """Raises ConfigError for a name with a dot, in a group or in the groups inside it.

  Args:
    key: the group's dotted key; '': the whole config.
    group: a dict or ConfigDict; any other value has no names.
  """
  if isinstance(group, dict | ConfigDict):
    for name, value in group.items():
      if "." in str(name):
        hint = "names have no dots: write groups as dicts in dicts, your own modules at the top"
        raise ConfigError(key or "config", name, hint)
      check_names(f"{key}.{name}" if key else str(name), value)


def check_flags(config: ConfigDict, words: Iterable[str]) -> None:
  """Refuses the first `--config.KEY=VALUE` of a command line that cannot be set in the config.

  Raises:
    ConfigError: for a key that is not there, which names similar ones; for a value that is no
      number where one is needed.
  """
  for word in words:
    flag, _, value = word.partition("=")
    dashes, _, key = flag.partition("config.")
    if dashes in ("-", "--") and "[" not in key:  # clients[0] names an entry of a tuple
      group, name = place(config, key, value)
      if name not in group:
        raise ConfigError(key, value, _not_there(config, key, name, group))
      _check_number(key, value, group.get_type(name))


def _not_there(config, key, name, group):
  """What to say of a key that a config does not have, and that a command line sets."""
  whole = " or ".join(ending_in(config, key))
  if whole:
    return f"no such key; did you mean {whole}?"
  hyper = inspect.signature(find_method(config.algorithm).hyper).parameters
  if key == f"algo.{name}" and name in hyper:
    listed = "c.algo = common.algo(Hyper(...))"
    return f"the config leaves it at its default; to set it from here let it list all: {listed}"
  return no_key(name, group)


def _check_number(key, value, kind):
  if kind in (int, float):
    try:
      kind(value)
    except ValueError:
      raise ConfigError(key, value, f"must be {NAMES[kind]}") from None


def ending_in(config: ConfigDict, key: str) -> list[str]:
  """The keys of a config's own experiment that end in `key`: 'algo.teachers' in 'teachers'."""
  own = {name: v for name, v in plain(config).items() if name not in ("baselines", "compare")}
  return [dotted for dotted in flat(own) if dotted.endswith(f".{key}")]


def flat(
  tree: dict[str, Any], prefix: str = "", *, separator: str = ".", keep_empty: bool = False
) -> dict[str, Any]:
  """A nested dict as {path: value}, the keys of a path joined by dots.

  Args:
    tree: nested dict.
    prefix: text in front of every path.
    separator: text between the keys of a path.
    keep_empty: whether an empty dict is a value; otherwise it is left out.
  """
  out: dict[str, Any] = {}
  for key, value in tree.items():
    path = f"{prefix}{key}"
    if isinstance(value, dict) and (value or not keep_empty):
      out |= flat(value, path + separator, separator=separator, keep_empty=keep_empty)
    else:
      out[path] = value
  return out


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[tuple[str, Any, Any]]:
  """(dotted key, old value, new value) of the keys that differ between two configs and must not.

  Raises:
    ConfigError: see `completed`.
  """
  if old.get("algorithm") == new["algorithm"] and old["algo"].keys() != new["algo"].keys():
    old, new = completed(old), completed(new)
  before, after = flat(without_counts(old)), flat(without_counts(new))
  longer = {key for key in LENGTH if before.get(key) and after.get(key)}
  return [
    (key, before.get(key), after.get(key))
    for key in sorted((set(before) | set(after)) - longer)
    if key.split(".")[0] not in FREE_ON_RESUME and before.get(key) != after.get(key)
  ]


def without_counts(config: dict[str, Any]) -> dict[str, Any]:
  """The config with complete `INFO` groups, defaults filled in, but without their counts."""
  usual = schema()
  info = {group: {**usual[group], **config.get(group, {})} for group in INFO}
  rest = {g: {k: v for k, v in i.items() if k not in COUNTS} for g, i in info.items()}
  return {**config, **rest}


def completed(config: dict[str, Any]) -> dict[str, Any]:
  """A config with the defaults of the hyper-parameters that it lacks.

  For runs saved before a method gained a hyper-parameter.

  Raises:
    ConfigError: for a missing hyper-parameter without a default.
  """
  defaults = {}
  for field in dataclasses.fields(find_method(config["algorithm"]).hyper):
    if field.name in config["algo"]:
      continue
    if field.default is not dataclasses.MISSING:
      defaults[field.name] = plain(field.default)
    elif field.default_factory is not dataclasses.MISSING:
      defaults[field.name] = plain(field.default_factory())
    else:
      hint = "missing; a hyper-parameter that a method gains later needs a default, for older runs"
      raise ConfigError(f"algo.{field.name}", None, hint)
  return {**config, "algo": {**config["algo"], **defaults}}


def replica_seeds(config: dict[str, Any]) -> tuple[int, ...]:
  """The seeds of the R replicas."""
  return tuple(config["seed"] + r for r in range(config["replicas"]))
