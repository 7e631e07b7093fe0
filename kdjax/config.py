"""Configs: where one is found, and the variants that it compares.

`configs/common.py: base` is the schema: every key, its type, its group. A key that it does not have
is refused, wherever it was set.
"""

import copy
import difflib
import functools
import importlib.resources
import math
import re
import runpy
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from kdjax.types import ConfigError

# What may differ between a run and its resumption: nothing that changes a number of the run; but
# what `peers` hear is a matter of chance anyhow, and each may have a patience of its own.
FREE_ON_RESUME = (
  *("mesh", "input", "log_every", "save_every", "evals", "faults", "peers"),
  *("compare", "baselines"),
)
# How long a run is: may change between the two, from one number above 0 to another.
LENGTH = ("steps", "rounds")
# Groups whose keys are not the schema's, but those of what they are handed to.
OPEN = ("model", "augment", "algo", "optim", "evals", "compare", "baselines")
# What says who holds what: the same for all that are compared.
SPLIT = (
  *("seed", "replicas", "source", "source_info", "limit", "holdout", "partition", "skew"),
  *("primary", "primary_labels", "labels", "alpha", "counts", "overlay"),
  *("public_source", "public_source_info", "public_share", "public_reuse", "public_limit"),
  "public_labels",
)
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
  near = difflib.get_close_matches(Path(place).stem, known, n=1)
  said = f"did you mean {near[0]}? " if near else ""
  hint = f"{said}a file that is there, or one of kdjax's own: {', '.join(known)}"
  raise ConfigError("--config", name, hint)


def read_config(name: str) -> ConfigDict:
  """The config of a file, found as `find_config` finds it; modules beside it can be named in it.

  Raises:
    ConfigError: for a name or words that mean nothing.
  """
  from kdjax.plugins import look_in

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


def no_key(key: str, known: Iterable[str]) -> str:
  """What to say of a key that is not among those known."""
  near = difflib.get_close_matches(str(key), known, n=1)
  return f"no such key; did you mean {near[0]}?" if near else f"no such key: {', '.join(known)}"


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


def check_flags(config: ConfigDict, words: Iterable[str]) -> None:
  """Refuses the first `--config.KEY=VALUE` of a command line whose key the config does not have.

  Raises:
    ConfigError: names the key alone, and the one that is nearly it.
  """
  for word in words:
    flag, _, value = word.partition("=")
    dashes, _, key = flag.partition("config.")
    if dashes in ("-", "--") and "[" not in key:  # such as clients[0], a place in a tuple
      group, name = place(config, key, value)
      if name not in group:
        raise ConfigError(key, value, no_key(name, group))


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
  """A nested dict as {dotted key: value}."""
  out: dict[str, Any] = {}
  for key, value in tree.items():
    name = f"{prefix}{key}"
    out |= flat(value, name + ".") if isinstance(value, dict) else {name: value}
  return out


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[tuple[str, Any, Any]]:
  """(dotted key, old value, new value) of what differs and may not, between a run's configs."""
  before, after = flat(old), flat(new)
  longer = {key for key in LENGTH if before.get(key) and after.get(key)}
  return [
    (key, before.get(key), after.get(key))
    for key in sorted((set(before) | set(after)) - longer)
    if key.split(".")[0] not in FREE_ON_RESUME and before.get(key) != after.get(key)
  ]


def replica_seeds(config: dict[str, Any]) -> tuple[int, ...]:
  """The seeds of the R replicas."""
  return tuple(config["seed"] + r for r in range(config["replicas"]))


def variants(config: ConfigDict) -> dict[str, ConfigDict]:
  """The experiments that a config is compared with, by name: `config.compare`.

  Raises:
    ConfigError: for a name without a meaning, a key that does not exist, or a change of the split.
  """
  compare = config.compare.to_dict() if hasattr(config.compare, "to_dict") else config.compare
  if isinstance(compare, str):
    hint = f'a tuple: "{tuple(compare.split(","))!r}"'
    raise ConfigError("compare", compare, hint)
  if not isinstance(compare, dict | list | tuple):
    raise ConfigError("compare", compare, "a tuple of names, or {name: what differs}")
  changes = compare if isinstance(compare, dict) else {name: {} for name in compare}
  return {name: variant(config, name, found) for name, found in changes.items()}


def variant(config: ConfigDict, name: str, changes: dict[str, Any]) -> ConfigDict:
  """The same experiment with what differs; `changes` over those of the baseline of that name.

  Raises:
    ConfigError: see `variants`.
  """
  key = f"compare.{name}"
  _check_name(key, name, config, changes)
  known = config.baselines.to_dict()
  algorithm = changes.get("algorithm", name if name in known else config.algorithm)
  base = known.get(name, known.get(algorithm, {}) if algorithm != config.algorithm else {})
  same = algorithm == config.algorithm and name not in known
  algo = config.algo.to_dict() if same else dict(base.get("algo", {}))
  whole = base | changes | {"algorithm": algorithm, "algo": algo | changes.get("algo", {})}
  other = copy.deepcopy(config)
  with other.unlocked(), other.ignore_type():
    for field, value in whole.items():
      if field not in schema():
        raise ConfigError(f"{key}.{field}", value, no_key(field, schema()))
      other[field] = _over(field, config[field], value)
    other.compare = ()
  _same_split(config, other, key)
  return other


def _over(field, old, value):
  """A variant's value; a part of a group goes over the config's, unless it names another kind."""
  if not isinstance(value, dict) or field == "algo":
    return value
  other_kind = field in OPEN and {"name", "kind"} & set(value)
  return value if other_kind else {**old.to_dict(), **value}


def _check_name(key, name, config, changes):
  """Names become folders; one that is no baseline must say what differs."""
  if not isinstance(changes, dict):
    raise ConfigError(key, changes, "a dict of what differs")
  if not isinstance(name, str) or not re.fullmatch(r"\w[\w ,=.+-]*", name):
    raise ConfigError("compare", name, "names become folders: letters, digits, spaces, ,=.+-_")
  if not changes and name not in config.baselines:
    own = ", ".join(config.baselines)
    raise ConfigError("compare", name, f"no baseline: one of {own}, or {{name: what differs}}")


def _same_split(config, other, key):
  """Refuses a variant whose clients would hold something else."""
  count = lambda c: sum(n for n, *_ in c.clients)
  if count(config) != count(other):
    hint = f"clients = {count(other)} changes who holds what: the config has {count(config)}"
    raise ConfigError(key, [list(e) for e in other.clients], hint)
  for field in SPLIT:
    if plain(config[field]) != plain(other[field]):
      hint = f"{field} would change who holds what: all that are compared share one split"
      raise ConfigError(f"{key}.{field}", plain(other[field]), hint)
