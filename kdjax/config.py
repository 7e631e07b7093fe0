"""Configs: where one is found, what its keys are, and how two differ.

`configs/common.py: base` is the schema: every key, its type, its group. A key that it does not have
is refused, wherever it was set.
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

# What changes no number of a run.
SAME_NUMBERS = ("mesh", "input", "log_every", "save_every", "evals", "compare", "baselines")
# What may differ between a run and its resumption: what becomes of a client that is not finite can
# be decided anew, and what `peers` hear is a matter of chance, each with a patience of its own.
FREE_ON_RESUME = (*SAME_NUMBERS, "faults", "peers")
# Groups with counts that are for plans: the data themselves are compared.
INFO, COUNTS = ("source_info", "public_source_info"), ("train", "test")
# How long a run is: may change between the two, from one number above 0 to another.
LENGTH = ("steps", "rounds")
# Groups whose keys are not the schema's, but those of what they are handed to.
OPEN = ("model", "augment", "algo", "optim", "evals", "compare", "baselines")
INFINITE = ("skew",)  # keys of numbers that may be infinite, which JSON does not know: 'inf'


def packaged() -> dict[str, Path]:
  """The configs that come with kdjax, by name."""
  folder = Path(str(importlib.resources.files("kdjax"))) / "configs"
  apart = ("__init__", "common", "data")
  return {p.stem: p for p in sorted(folder.glob("*.py")) if p.stem not in apart}


def find_config(name: str) -> tuple[Path, str]:
  """The file that `--config` names, and the words after it: 'mhd_digits:fedavg', 'DIR/my.py'.

  Raises:
    ConfigError: where there is none.
  """
  place, _, words = str(name).partition(":")
  if Path(place).suffix == ".py" and Path(place).is_file():
    return Path(place), words
  known = packaged()
  if place in known:
    return known[place], words
  if Path(f"{place}.py").is_file():  # not taken: a name alone means the same in every folder
    hint = f"write {str(name).replace(place, f'{place}.py', 1)}, the file that is there"
    raise ConfigError("--config", name, hint)
  near = difflib.get_close_matches(Path(place).stem, known, n=1)
  said = f"did you mean {near[0]}? " if near else ""
  hint = f"{said}a file that is there, or one of kdjax's own: {', '.join(known)}"
  raise ConfigError("--config", name, hint)


def read_config(name: str) -> ConfigDict:
  """The config of a file, found as `find_config` finds it; modules beside it can be named in it.

  Raises:
    ConfigError: for a name or words that mean nothing.
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
  """`kdjax configs`: the names of the packaged experiments and what they are."""
  if argv and argv not in (["--help"], ["-h"]):
    raise ConfigError("arguments", argv, "kdjax configs takes none")
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
  """A config as nested dicts, lists and scalars, as it stands in `config.json`."""
  config = config.to_dict() if hasattr(config, "to_dict") else config
  if isinstance(config, dict):
    infinite = {k for k in INFINITE if isinstance(config.get(k), float) and config[k] == math.inf}
    return {k: "inf" if k in infinite else plain(value) for k, value in config.items()}
  return [plain(value) for value in config] if isinstance(config, list | tuple) else config


def tuples(value: Any) -> Any:
  """The same with tuples for lists: what `plain` wrote, as one writes it in a config."""
  if isinstance(value, dict):
    return {key: tuples(item) for key, item in value.items()}
  return tuple(map(tuples, value)) if isinstance(value, list) else value


def no_key(key: str, known: Iterable[str]) -> str:
  """What to say of a key that is not among those known."""
  near = difflib.get_close_matches(str(key), known, n=1)
  if near:
    return f"no such key; did you mean {near[0]}?"
  return f"no such key; there are: {', '.join(known)}"


def place(config: ConfigDict, key: str, value: Any) -> tuple[ConfigDict, str]:
  """The group that a dotted key lies in, and its name there, which may be new.

  Args:
    config: ConfigDict.
    key: such as 'algo.teachers'.
    value: what it is to be, for the message.

  Raises:
    ConfigError: for a group that is not there.
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
  """Raises ConfigError for a name with a dot in a group or those inside, which no config can have.

  Args:
    key: the group's dotted key; '': the whole config.
    group: a dict or ConfigDict; what is none has no names.
  """
  if isinstance(group, dict | ConfigDict):
    for name, value in group.items():
      if "." in str(name):
        hint = "names have no dots: groups are dicts in dicts, modules of yours lie at the top"
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
    if dashes in ("-", "--") and "[" not in key:  # such as clients[0], a place in a tuple
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
  """The keys of a config's own experiment that end in another: 'algo.teachers' in 'teachers'."""
  own = {name: v for name, v in plain(config).items() if name not in ("baselines", "compare")}
  return [whole for whole in flat(own) if whole.endswith(f".{key}")]


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
  """A nested dict as {dotted key: value}."""
  out: dict[str, Any] = {}
  for key, value in tree.items():
    name = f"{prefix}{key}"
    out |= flat(value, name + ".") if isinstance(value, dict) else {name: value}
  return out


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[tuple[str, Any, Any]]:
  """(dotted key, old value, new value) of what differs and may not, between a run's configs.

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
  """A config whose `INFO` groups lack the counts, and say outright what else they left out."""
  usual = schema()
  info = {group: {**usual[group], **config.get(group, {})} for group in INFO}
  rest = {g: {k: v for k, v in i.items() if k not in COUNTS} for g, i in info.items()}
  return {**config, **rest}


def completed(config: dict[str, Any]) -> dict[str, Any]:
  """A config with the defaults of the hyper-parameters that it says nothing of.

  Such as a run's, whose method has got another since.

  Raises:
    ConfigError: for one that has no default.
  """
  found = {}
  for field in dataclasses.fields(find_method(config["algorithm"]).hyper):
    if field.name in config["algo"]:
      continue
    if field.default is not dataclasses.MISSING:
      found[field.name] = plain(field.default)
    elif field.default_factory is not dataclasses.MISSING:
      found[field.name] = plain(field.default_factory())
    else:
      hint = "missing; a hyper-parameter that a method gets later needs a default, for older runs"
      raise ConfigError(f"algo.{field.name}", None, hint)
  return {**config, "algo": {**config["algo"], **found}}


def replica_seeds(config: dict[str, Any]) -> tuple[int, ...]:
  """The seeds of the R replicas."""
  return tuple(config["seed"] + r for r in range(config["replicas"]))
