"""Sources by name: labelled images and tables from disk, or from the user's own code."""

import inspect
from pathlib import Path
from typing import Any

import numpy as np

from kdjax.data import readers
from kdjax.data.arrays import as_many
from kdjax.data.checks import NOTHING, check_info, check_source
from kdjax.data.encoded import Encoded
from kdjax.data.example_set import ExampleSet, Holdout, Source, hold_out, resident
from kdjax.data.folder import folder
from kdjax.data.hub import hf
from kdjax.data.records import records
from kdjax.data.table import table
from kdjax.data.tfds import tfds
from kdjax.plugins import find_yours
from kdjax.types import ConfigError

READERS = {
  "digits": readers.digits,
  "idx": readers.idx,
  "cifar": readers.cifar,
  "npz": readers.npz,
  "csv": table,
  "folder": folder,
  "tfds": tfds,
  "hf": hf,
  "records": records,
}
ENCODED = ("folder", "tfds", "hf", "records")  # those that may be decoded, and so resized
KINDS = (
  "'digits', 'idx:DIR', 'cifar:DIR', 'npz:FILE', 'csv:FILE', 'folder:DIR', 'tfds:NAME', 'hf:NAME', "
  "'records:DIR' or your own 'package.module:function'"
)


def open_source(
  name: str, *, info: dict[str, Any], holdout: Holdout, resident_bytes: float, begun: bool = False
) -> Source:
  """Opens the source that the config names.

  Args:
    name: one of `KINDS`; your own function is 'package.module:function', called without
      arguments, and returns a Source.
    info: the config's `source_info`. What it says of shape and classes is compared with what the
      source holds, zeros are not; the counts are for plans and compared with nothing. With
      `resize: True`, encoded images are scaled until they cover (h, w) and centre-cropped (a copy
      in `records:DIR` has been already); `grey: True` drops their colours; `decoder` is one of
      images.DECODERS.
    holdout: unless it is 0, the test set is some of the training examples, see `hold_out`.
    resident_bytes: a set that would fill more bytes is not read into memory; arrays and tables
      always are.
    begun: whether a run that goes on reads it: images that were damaged since are replaced then,
      and so not refused, unless they are read into memory.

  Raises:
    ConfigError: the source is not there, is damaged, or has not the shape or the classes that
      `source_info` expects.
  """
  info = check_info(info)
  for key in ("resize", "grey", "decoder"):
    if info[key] != NOTHING[key] and not is_encoded(name):
      hint = f"{NOTHING[key]}: only {ENCODED} decode and resize, not {name!r}"
      raise ConfigError(f"source_info.{key}", info[key], hint)
  source = opened(name, info=info, test=not holdout)
  for examples in () if begun else (source.train, source.test)[: 1 if holdout else 2]:
    if isinstance(examples.read, Encoded):
      examples.read.check(len(examples.labels))
  check_source(source, name, info)
  return finished(source, holdout=holdout, resident_bytes=resident_bytes)


def finished(source: Source, *, holdout: Holdout, resident_bytes: float) -> Source:
  """A checked source, its test set held out and its sets in memory where `open_source` says so."""
  if holdout:
    source = hold_out(source, holdout)
  train, test = (resident(s, resident_bytes) for s in (source.train, source.test))
  return source._replace(train=train, test=test)


def is_name(name: str) -> bool:
  """Whether it names a source, there or not; what `kdjax.arrays` is called need not."""
  yours = all(part.isidentifier() for part in name.replace(":", ".").split(".")) and ":" in name
  return name.partition(":")[0] in READERS or yours


def is_encoded(name: str) -> bool:
  """Whether a source's images may have to be decoded."""
  return name.partition(":")[0] in ENCODED


def is_resident(name: str, size: float, resident_bytes: float) -> bool:
  """Whether `open_source` holds a set of `size` bytes in memory.

  A larger array from the user's own function stays there too, but only loading can tell.
  """
  always = name.partition(":")[0] in READERS and not is_encoded(name)
  return always or size <= resident_bytes


def opened(name: str, *, info: dict[str, Any], test: bool) -> Source:
  """The Source as its reader gives it, unchecked.

  Args:
    name: as in `open_source`.
    info: the same; it may lack anything.
    test: whether to look for test files; without, `test` is the training set.
  """
  kind = name.partition(":")[0]
  if kind in READERS:
    return _read(name, READERS[kind], check_info(info), test)
  if is_name(name):
    return _users(name)
  guess = {".npz": "npz", ".csv": "csv"}.get(Path(name).suffix.lower())
  hint = f"did you mean '{guess}:{name}'? " if guess else ""
  raise ConfigError("source", name, f"{hint}write {KINDS}")


def describe(name: str, *, info: dict[str, Any]) -> Source:
  """A stand-in for a plan: the counts and shapes of `source_info`, labels in turn, no examples.

  With '?label=coarse...' the strata are five times as many as the labels, as in CIFAR-100.

  Raises:
    ConfigError: where `source_info` does not say the shape and the classes.
  """
  info = check_info(info)
  for key in ("image", "classes"):
    if not np.any(info[key]):
      raise ConfigError(f"source_info.{key}", info[key], "say what the source holds")
  classes = info["classes"]
  strata = 5 * classes if "?label=coarse" in name else classes

  def stand_in(n):
    place = np.arange(n)
    return ExampleSet(place % classes, place % strata, info["image"], None, None)

  return Source(name, stand_in(info["train"]), stand_in(info["test"]), classes)


def _read(name, reader, info, test):
  """A Source from a reader."""
  splits = [reader(name, split, info) for split in ("train", "test")[: 2 if test else 1]]
  train, test = _example_set(splits[0]), _example_set(splits[-1])
  classes = splits[0].classes
  if classes is None:  # the format does not tell
    classes = as_many(train.labels, test.labels)
  return Source(name, train, test, classes)


def _example_set(split):
  if isinstance(split.examples, np.ndarray):
    array, read, shape = split.examples, None, split.examples.shape[1:]
  else:
    array, read, shape = None, split.examples, split.examples.shape
  labels, strata = np.asarray(split.labels), np.asarray(split.strata)
  return ExampleSet(labels, strata, tuple(shape), array, read)


def _users(name):
  """The Source that a user's own function returns."""
  make = find_yours(name, key="source", hint=f"write {KINDS}")
  if not callable(make):
    raise ConfigError("source", name, f"must be a function, not {make!r}")
  try:
    inspect.signature(make).bind()
  except (TypeError, ValueError) as error:  # or it does not tell
    raise ConfigError("source", name, f"must be a function without arguments: {error}") from None
  source = make()
  if not isinstance(source, Source):
    hint = f"must return a kdjax.data.sources.Source, not {type(source).__name__}"
    raise ConfigError("source", name, hint)
  return source
