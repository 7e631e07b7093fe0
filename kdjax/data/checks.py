"""What a source must be, whoever made it, and what `source_info` says that it is."""

from typing import Any

import numpy as np

from kdjax.data.example_set import ExampleSet, Source, is_table
from kdjax.types import ConfigError

# A config's `source_info` that says nothing: a source on disk or in memory knows its own facts.
NOTHING: dict[str, Any] = dict(
  train=0, test=0, image=(0, 0, 0), classes=0, resize=False, grey=False, decoder="pillow"
)
MOST_CLASSES = 1_000_000  # a network has an output for each, whether or not examples have it
AS_FOUND = "another source is taken as it is with source_info.image=(0,0,0) and .classes=0"


def check_info(info: dict[str, Any]) -> dict[str, Any]:
  """A config's `source_info` with everything that it leaves out, which is what is 0 or missing.

  Raises:
    ConfigError: for invalid sizes or counts.
  """
  info = NOTHING | info
  sizes = tuple(info["image"])
  whole = all(isinstance(n, int) and n >= 0 for n in sizes)
  if len(sizes) not in (1, 3) or not whole or (any(sizes) and not all(sizes)):
    hint = "(height, width, channels) of images, (features,) of a table, or zeros: not given"
    raise ConfigError("source_info.image", sizes, hint)
  for key in ("train", "test", "classes"):
    if not isinstance(info[key], int) or info[key] < 0:
      raise ConfigError(f"source_info.{key}", info[key], "a whole number, or 0: not given")
  if info["classes"] > MOST_CLASSES:
    raise ConfigError("source_info.classes", info["classes"], f"at most {MOST_CLASSES:,}")
  return info | {"image": sizes}


def check_source(source: Source, name: str, info: dict[str, Any]) -> None:
  """Checks a source that was just opened.

  Args:
    source: Source.
    name: as the config spells it.
    info: what `check_info` returned.

  Raises:
    ConfigError: unless both sets are well formed, shapes and classes as far as given as `info`
      says.
  """
  if source.classes > MOST_CLASSES:
    hint = f"has {source.classes:,} classes, at most {MOST_CLASSES:,}: number its labels from 0"
    raise ConfigError("source", name, hint)
  for split, examples in (("train", source.train), ("test", source.test)):
    _check_labels(split, examples, source.classes, name)
    _check_array(split, examples, name)
    if any(info["image"]) and tuple(examples.shape) != info["image"]:
      hint = f"the {split} {_what(examples)} of {name!r} are {tuple(examples.shape)}"
      raise ConfigError("source_info.image", info["image"], f"{hint}; {AS_FOUND}")
    if tuple(examples.shape) != tuple(source.train.shape):
      hint = f"the {split} {_what(examples)} are {tuple(examples.shape)}, those of train"
      raise ConfigError("source", name, f"{hint} {tuple(source.train.shape)}")
  if info["classes"] not in (0, source.classes):
    hint = f"{name!r} has {source.classes} classes; {AS_FOUND}"
    raise ConfigError("source_info.classes", info["classes"], hint)


def _what(examples):
  return "rows" if is_table(examples.shape) else "images"


def _check_labels(split, examples, classes, name):
  n, what = examples.labels.size, _what(examples)
  if n == 0:
    raise ConfigError("source", name, f"holds no {split} {what[:-1]}")
  for labels in (examples.labels, examples.strata):
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
      one = "a row" if is_table(examples.shape) else "an image"
      hint = f"{split} labels must be whole numbers, one {one}, not"
      raise ConfigError("source", name, f"{hint} {labels.dtype}{list(labels.shape)}")
  if len(examples.strata) != n:
    raise ConfigError("source", name, f"has {n} {split} labels but {len(examples.strata)} strata")
  low, high = examples.labels.min(), examples.labels.max()
  if examples.strata.min() < 0 or low < 0 or high >= classes:
    hint = f"{split} labels must be 0 to {classes - 1}, not {low} to {high}"
    raise ConfigError("source", name, hint)


def _check_array(split, examples: ExampleSet, name):
  array, what = examples.array, _what(examples)
  if len(examples.shape) not in (1, 3) or not all(examples.shape):
    hint = f"{split} examples must be images [N, h, w, c] or features [N, F]"
    raise ConfigError("source", name, f"{hint}: one is {tuple(examples.shape)}")
  if array is None:
    return
  if array.dtype != examples.dtype:
    hint = f"{split} {what} must be {examples.dtype}, not {array.dtype}"
    raise ConfigError("source", name, hint)
  if len(array) != len(examples.labels):
    hint = f"has {len(array)} {split} {what} but {len(examples.labels)} labels"
    raise ConfigError("source", name, hint)
  if is_table(examples.shape) and not np.isfinite(array).all():
    row, column = np.argwhere(~np.isfinite(array))[0].tolist()
    hint = f"{split} row {row}, feature {column} is {array[row, column]}, no finite number"
    raise ConfigError("source", name, hint)
