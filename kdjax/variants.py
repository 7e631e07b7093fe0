"""The variants of an experiment that a config compares: `config.compare`."""

import re
from typing import Any

from ml_collections import ConfigDict

from kdjax.checks import check_clients, check_type, validate
from kdjax.config import OPEN, copied, no_key, plain, schema
from kdjax.types import ConfigError, blamed

# What says who holds what: the same for all that are compared.
SPLIT = (
  *("seed", "replicas", "source", "source_info", "limit", "holdout", "partition", "skew"),
  *("primary", "primary_labels", "labels", "alpha", "counts", "overlay"),
  *("public_source", "public_source_info", "public_share", "public_reuse", "public_limit"),
  "public_labels",
)
# What a run's folder holds itself, beside the folders of its variants and files with an ending.
OWN = ("checkpoints", "lock", "plots", "pool", "profile", "tensorboard")


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
  named = {"algorithm": name, **known[name]} if name in known else {}
  algorithm = changes.get("algorithm", named.get("algorithm", config.algorithm))
  base = named or (known.get(algorithm, {}) if algorithm != config.algorithm else {})
  other = copied(config)
  with other.unlocked(), other.ignore_type():
    if named or algorithm != config.algorithm:
      other.algo = {}  # another method's, or all of the baseline's own
    for layer in (base, changes, {"algorithm": algorithm, "compare": ()}):
      for field, value in layer.items():
        _check_field(f"{key}.{field}", field, value)
        other[field] = _over(field, other[field], value)
  _same_split(config, other, key)
  with blamed(key):
    validate(plain(other))
  return other


def _check_field(key, field, value):
  """What is laid over a config is a key of the schema, and of its kind."""
  if field not in schema():
    raise ConfigError(key, value, no_key(field, schema()))
  value = plain(value)
  check_type(key, value, schema()[field])
  if field == "clients":
    check_clients(key, value)


def _over(field, old, value):
  """A value laid over another; a part of a group goes over it, unless it names another kind."""
  if not isinstance(value, dict):
    return value
  other_kind = field in OPEN and field != "algo" and {"name", "kind"} & set(value)
  return value if other_kind else {**old.to_dict(), **value}


def _check_name(key, name, config, changes):
  """Names become folders; one that is no baseline must say what differs."""
  if not isinstance(changes, dict):
    raise ConfigError(key, changes, "a dict of what differs")
  if not isinstance(name, str) or not re.fullmatch(r"\w[\w ,=+-]*", name):
    raise ConfigError("compare", name, "names become folders: letters, digits, spaces, ,=+-_")
  if name.lower() in OWN:
    raise ConfigError("compare", name, "names become folders, and this one is the run's own")
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
