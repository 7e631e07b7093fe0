"""The variants that an experiment is compared with: `config.compare`."""

import re
from typing import Any

from ml_collections import ConfigDict

from kdjax.checks import check_clients, check_type, validate
from kdjax.config import OPEN, copied, no_key, plain, schema
from kdjax.types import ConfigError, blamed

# The keys that decide the shards, which all compared experiments share.
SPLIT = (
  *("seed", "replicas", "source", "source_info", "limit", "holdout", "partition", "skew"),
  *("primary", "primary_labels", "labels", "alpha", "counts", "overlay"),
  *("public_source", "public_source_info", "public_share", "public_reuse", "public_limit"),
  "public_labels",
)
# The names that a run's folder uses itself, besides files with an ending.
OWN = ("checkpoints", "lock", "plots", "pool", "profile", "tensorboard")


def variants(config: ConfigDict) -> dict[str, ConfigDict]:
  """The configs of the variants that a config is compared with, by name.

  Raises:
    ConfigError: for an unknown name, a key that does not exist, or a change of the shards.
  """
  compare = config.compare.to_dict() if hasattr(config.compare, "to_dict") else config.compare
  if isinstance(compare, str):
    hint = f'a tuple: "{tuple(compare.split(","))!r}"'
    raise ConfigError("compare", compare, hint)
  if not isinstance(compare, dict | list | tuple):
    raise ConfigError("compare", compare, "a tuple of names, or {name: what differs}")
  changes = compare if isinstance(compare, dict) else {name: {} for name in compare}
  return {name: variant(config, name, changed) for name, changed in changes.items()}


def variant(config: ConfigDict, name: str, changes: dict[str, Any]) -> ConfigDict:
  """The same experiment with the changes of the baseline of that name, and `changes` over them.

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
      other.algo = {}  # the hyper-parameters of another method, or all those of the baseline
    for layer in (base, changes, {"algorithm": algorithm, "compare": ()}):
      for field, value in layer.items():
        _check_field(f"{key}.{field}", field, value)
        other[field] = _over(field, other[field], value)
  _same_split(config, other, key)
  with blamed(key):
    validate(plain(other))
  return other


def _check_field(key, field, value):
  """Checks that a changed field is a key of the schema, and that its value has the type."""
  if field not in schema():
    raise ConfigError(key, value, no_key(field, schema()))
  value = plain(value)
  check_type(key, value, schema()[field])
  if field == "clients":
    check_clients(key, value)


def _over(field, old, value):
  """The new value of a field; a group keeps its other keys, unless `value` names another kind."""
  if not isinstance(value, dict):
    return value
  is_other_kind = field in OPEN and field != "algo" and {"name", "kind"} & set(value)
  return value if is_other_kind else {**old.to_dict(), **value}


def _check_name(key, name, config, changes):
  """Checks a variant's name, which becomes a folder's; one without changes must be a baseline's."""
  if not isinstance(changes, dict):
    raise ConfigError(key, changes, "a dict of what differs")
  if not isinstance(name, str) or not re.fullmatch(r"\w[\w ,=+-]*", name):
    raise ConfigError("compare", name, "names become folders: letters, digits, spaces, ,=+-_")
  if name.lower() in OWN:
    raise ConfigError("compare", name, "names become folders, and this one is the run's own")
  if not changes and name not in config.baselines:
    own = ", ".join(config.baselines)
    hint = f"is not a baseline: one of {own}, or {{name: what differs}}"
    raise ConfigError("compare", name, hint)


def _same_split(config, other, key):
  """Refuses a variant whose clients would hold other data."""
  count = lambda c: sum(n for n, *_ in c.clients)
  if count(config) != count(other):
    hint = f"clients = {count(other)} changes who holds what: the config has {count(config)}"
    raise ConfigError(key, [list(e) for e in other.clients], hint)
  for field in SPLIT:
    if plain(config[field]) != plain(other[field]):
      hint = f"{field} would change who holds what: all compared experiments share one split"
      raise ConfigError(f"{key}.{field}", plain(other[field]), hint)
