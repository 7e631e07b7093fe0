"""Checks keys, types and values of a config that are wrong for any data and any method.

Values that depend on the method, the data or the machine are checked where these are known, and all
before a run's folder exists.
"""

import math
import numbers
from collections.abc import Iterator
from typing import Any

from kdjax.config import INFINITE, OPEN, no_key, schema, tuples
from kdjax.types import ConfigError

LONGEST = 4096  # characters of a text: no path is longer
WHOLE = 2**31 - 1  # positions and sizes are 32-bit numbers on a device
LARGEST = 1e9  # no weight, rate or bound is larger, except numbers that may be infinite
BYTES = ("source_resident_bytes",)  # keys in bytes of the host's memory, which may be larger
MOST_STEPS, MOST_ROUNDS = 10**8, 10**6
MOST_CLIENTS = 10_000  # of all replicas: each has its own data lists and draws on the host
# (least, most) of the schema's numbers; (0, no bound) for all others.
RANGES: dict[str, tuple[float, float]] = {
  "batch": (1, WHOLE),
  "replicas": (1, MOST_CLIENTS),
  "public_share": (0, 1),
  "overlay.share": (0, 1),
  "faults.saves": (1, WHOLE),
  "faults.images": (0, 1),
  "input.workers": (0, 1024),
  "input.ahead": (1, 1024),
}
CHOICES: dict[str, tuple[str, ...]] = {
  "partition": ("skew", "dirichlet", "equal", "table", "owner"),
  "primary": ("even", "random", "explicit"),
  "source_info.decoder": ("pillow", "opencv"),
  "public_source_info.decoder": ("pillow", "opencv"),
  "faults.client": ("reset", "freeze", "stop"),
  "mesh.remat": ("auto", "on", "off"),
  "mesh.blocks": ("unroll", "scan"),
}
# Groups that may leave out keys, which the source then gives.
PARTIAL = ("source_info", "public_source_info")
ENTRY = "each entry is (how many, model, model arguments)"


def validate(config: dict[str, Any]) -> None:
  """Raises ConfigError for the first key or value of a config, a nested dict, that is invalid."""
  for key, value in leaves(config):
    _check_leaf(key, value)
  _keys(config)
  _holdout(config["holdout"])
  _values(config)
  _length(config)
  _images(config)
  check_clients("clients", config["clients"])
  _count(config["clients"], config["replicas"])
  _evals(config)
  _baselines(config["baselines"])
  _start(config["start"])
  if config["primary_labels"] and config["primary"] != "explicit":
    hint = f"ignored with primary = {config['primary']!r}: set 'explicit', or leave it ()"
    raise ConfigError("primary_labels", config["primary_labels"], hint)


def leaves(tree: Any, key: str = "") -> Iterator[tuple[str, Any]]:
  """(dotted key, value) of every value in a config that is not a group or a sequence."""
  if isinstance(tree, dict):
    for name, value in tree.items():
      if not isinstance(name, str):
        raise ConfigError(key or "config", name, "keys are text")
      yield from leaves(value, f"{key}.{name}" if key else name)
  elif isinstance(tree, list | tuple):
    for value in tree:
      yield from leaves(value, key)
  else:
    yield key, tree


def _check_leaf(key, value):
  """Refuses values that no key may have: NaN, infinity, overflow on a device, no form in JSON."""
  if isinstance(value, float):
    if not math.isfinite(value):
      raise ConfigError(key, value, "must be a finite number")
    if abs(value) > LARGEST and key not in (*BYTES, *INFINITE):
      raise ConfigError(key, value, f"must be at most {LARGEST:g}")
  elif isinstance(value, int):
    if abs(value) > (2**63 - 1 if key in BYTES else WHOLE):
      raise ConfigError(key, value, "must be below 2**31: steps and sizes are 32-bit numbers")
  elif isinstance(value, str):
    if len(value) > LONGEST or not value.isprintable():
      raise ConfigError(key, value, f"must be printable text of at most {LONGEST:,} characters")
  elif isinstance(value, type):
    name = f"'{value.__module__}:{value.__qualname__}'"
    hint = f"write its name, {name}: a module's and its own, '__main__:Net' in a notebook or script"
    raise ConfigError(key, value, hint)
  elif value is not None:
    hint = f"must be a number, text, a tuple or a group of keys, not {type(value).__name__}"
    raise ConfigError(key, value, hint)


def _keys(config):
  """Checks that the config has exactly the schema's keys, with their types."""
  known = schema()
  for key in config:
    if key not in known:
      raise ConfigError(key, config[key], no_key(key, known))
  for key, usual in known.items():
    if key not in config:
      raise ConfigError(key, None, "missing: start from kdjax.configs.common.base()")
    check_type(key, config[key], usual)
    if isinstance(usual, dict) and key not in OPEN:
      _group(key, config[key], usual)


def _group(key, group, usual):
  """Checks that a closed group has the schema's keys; all of them, unless it is in `PARTIAL`."""
  for name, value in group.items():
    if name not in usual:
      raise ConfigError(f"{key}.{name}", value, no_key(name, usual))
    check_type(f"{key}.{name}", value, usual[name])
  for name, value in usual.items():
    if name not in group and key not in PARTIAL:
      raise ConfigError(f"{key}.{name}", None, f"missing: such as {tuples(value)!r}")


def check_type(key: str, value: Any, usual: Any) -> None:
  """Refuses a value of another type than the schema's; a whole number may stand for a number."""
  number = isinstance(value, int | float) and not isinstance(value, bool)
  infinite = key in INFINITE and value == "inf"  # the form that `plain` writes
  right = {
    bool: (isinstance(value, bool), "True or False"),
    int: (number and isinstance(value, int), "a whole number"),
    float: (number or infinite, "a number"),
    str: (isinstance(value, str), "text"),
    list: (isinstance(value, list | tuple), "a tuple"),
    dict: (isinstance(value, dict), "a group of keys"),
  }
  fits, words = right[type(usual)]
  if not fits and key not in ("compare", "holdout"):
    measured = key.startswith("normalise.") and isinstance(value, str)
    example = ("data",) if measured else tuples(usual)
    raise ConfigError(key, value, f"must be {words}, such as {example!r}")


def _values(config):
  """Checks that numbers lie in their ranges and that names are among the known ones."""
  for key, value in _closed(config):
    if key in CHOICES and value not in CHOICES[key]:
      raise ConfigError(key, value, "must be one of " + ", ".join(CHOICES[key]))
    if isinstance(value, bool | str | list | tuple):
      continue
    least, most = RANGES.get(key, (0, WHOLE))
    if value < least:
      words = "must not be negative" if least == 0 else f"must be at least {least}"
      raise ConfigError(key, value, words)
    if value > most and key in RANGES:
      raise ConfigError(key, value, f"must lie in {least}..{most:,}")
  if config["seed"] + config["replicas"] > 2**31:
    raise ConfigError("seed", config["seed"], "the seed of every replica must be below 2**31")
  if not config["mesh"]["device_tflops"] > 0:
    raise ConfigError("mesh.device_tflops", config["mesh"]["device_tflops"], "must be above 0")


def _closed(config):
  """(dotted key, value) of the schema's own keys, those of its closed groups included."""
  for key, value in config.items():
    if not isinstance(value, dict):
      if key != "compare":
        yield key, value
    elif key not in OPEN:
      yield from ((f"{key}.{name}", inner) for name, inner in value.items())


def _length(config):
  """Refuses a run that would take too long to end."""
  for key, most in (("steps", MOST_STEPS), ("rounds", MOST_ROUNDS)):
    if config[key] > most:
      hint = f"it would take {took(config[key])} at 1 ms each; at most {most:,}"
      raise ConfigError(key, config[key], hint)


def took(calls: int) -> str:
  """The time of `calls` calls of one millisecond each, in words."""
  hours = calls / 3.6e6
  return f"{hours / 24:,.0f} days" if hours >= 48 else f"{hours:,.1f} hours"


def _images(config):
  for key in PARTIAL:
    shape = config[key].get("image", [0, 0, 0])
    sizes = shape if isinstance(shape, list) else ()  # zeros if nothing is given
    if len(sizes) not in (1, 3) or not all(type(n) is int and n >= 0 for n in sizes):
      hint = "(height, width, channels) in pixels, or (features,) of a table"
      raise ConfigError(f"{key}.image", shape, hint)
  for key, value in config["normalise"].items():  # `data.facts` counts them
    real = [isinstance(x, numbers.Real) and not isinstance(x, bool) for x in value]
    if value != ["data"] and not (real and all(real)):
      hint = "one number, or one for each channel or feature; or ('data',)"
      raise ConfigError(f"normalise.{key}", value, hint)


def _holdout(value):
  parts = value if isinstance(value, list) and len(value) == 2 else [value]
  least = 1 if len(parts) == 2 else 0
  if not all(type(n) is int and n >= least for n in parts):
    raise ConfigError("holdout", value, "a number n of training examples, or two (n, m) above 0")


def check_clients(key: str, clients: list) -> None:
  """Refuses entries that are not (how many, model, model arguments)."""
  if not clients:
    raise ConfigError(key, (), "needs at least one entry (how many, model, model arguments)")
  for entry in clients:
    n, name, arguments = entry if isinstance(entry, list) and len(entry) == 3 else (0, "", {})
    if not (type(n) is int and n > 0 and isinstance(name, str) and isinstance(arguments, dict)):
      raise ConfigError(key, entry, ENTRY)
    for own in ("classes", "heads"):
      if own in arguments:
        hint = f"{own} is not a model argument: the data and the method set it"
        raise ConfigError(key, entry, hint)


def _count(clients, replicas):
  K = sum(n for n, *_ in clients)
  if K * replicas > MOST_CLIENTS:
    key, value = ("clients", K) if replicas < K else ("replicas", replicas)
    hint = f"{K:,} clients in each of {replicas:,} replicas are more than {MOST_CLIENTS:,}"
    raise ConfigError(key, value, f"{hint}: each has its own data lists and draws on the host")


def _evals(config):
  for name, arguments in config["evals"].items():
    every = arguments.get("every") if isinstance(arguments, dict) else None
    if type(every) is not int or every < 0:
      hint = "a dict with `every`: batches between two evaluations, or 0: after every round"
      raise ConfigError(f"evals.{name}", arguments, hint)


def _baselines(baselines):
  for name, changes in baselines.items():
    if not isinstance(changes, dict):
      raise ConfigError(f"baselines.{name}", changes, "a dict of what differs")


def _start(start):
  for key, nothing in (("part", ()), ("client", 0)):
    if start[key] and not start["workdir"]:
      hint = f"ignored without start.workdir: name a run's folder, or leave it {nothing!r}"
      raise ConfigError(f"start.{key}", start[key], hint)
