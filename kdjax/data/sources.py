"""Sources by name: labelled images from disk, from memory, or from the user's own code."""

import dataclasses
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from kdjax.core.random import host_rng
from kdjax.data import readers
from kdjax.data.images import folder
from kdjax.data.records import records
from kdjax.data.tfds import tfds
from kdjax.plugins import load_module
from kdjax.types import ConfigError

READERS = {
  "digits": readers.digits,
  "idx": readers.idx,
  "cifar": readers.cifar,
  "npz": readers.npz,
  "folder": folder,
  "tfds": tfds,
  "records": records,
}
ENCODED = ("folder", "tfds", "records")  # those that may be decoded, and so resized
KINDS = (
  "'digits', 'idx:DIR', 'cifar:DIR', 'npz:FILE', 'folder:DIR', 'tfds:NAME', 'records:DIR' or "
  "your own 'package.module:function'"
)
CHUNK = 256  # images a thread decodes at a time


@dataclasses.dataclass(frozen=True, eq=False)
class ExampleSet:
  """N labelled images, in memory or read where they are needed."""

  labels: np.ndarray  # i64[N]
  strata: np.ndarray  # i64[N], the labels that partitions count by (CIFAR-100: the fine ones)
  shape: tuple[int, int, int]  # (h, w, c)
  array: np.ndarray | None  # u8[N, h, w, c], where the set is in memory
  read: Callable | None  # indices i64[n] -> u8[n, h, w, c], where it is not

  def fetch(self, index):
    """Images u8[n, h, w, c] of the indices i64[n]; raises ValueError for a stand-in."""
    if self.array is not None:
      return self.array[index]
    if self.read is None:
      raise ValueError("this set only stands in for its data, in a plan: it holds no images")
    return self.read(np.asarray(index))


class Source(NamedTuple):
  """Training and test images of one task."""

  name: str
  train: ExampleSet
  test: ExampleSet
  classes: int  # C


def open_source(name, *, info, holdout, resident_bytes):
  """Opens the source that the config names.

  Args:
    name: 'digits', 'idx:DIR', 'cifar:DIR', 'npz:FILE', 'folder:DIR', 'tfds:NAME', 'records:DIR',
      or the dotted path of the user's own 'package.module:function' ('package.module' means its
      `load`), which is called without arguments and returns a Source.
    info: the config's `source_info`, what its author expects: {'train': N, 'test': N, 'image':
      (h, w, c), 'classes': C}; the counts are for plans, nothing compares them with the data. With
      `resize: True`, images of folders and TFDS are scaled until they cover (h, w) and
      centre-cropped (a copy in `records:DIR` has been already); `decoder` is one of
      images.DECODERS.
    holdout: n > 0 takes n training images, always the same, as the test set.
    resident_bytes: a set that would fill more bytes is not read into memory; IDX, CIFAR and npz
      files always are.

  Raises:
    ConfigError: the source is not there, is damaged, or has not the images or the classes that
      `source_info` expects.
  """
  _check_info(info)
  for key, usual in (("resize", False), ("decoder", "pillow")):
    if info.get(key, usual) != usual and not is_encoded(name):
      hint = f"{usual}: only {ENCODED} decode and resize, not {name!r}"
      raise ConfigError(f"source_info.{key}", info[key], hint)
  source = opened(name, info=info, test=not holdout)
  _check(source, name, info)
  if holdout:
    source = _hold_out(source, holdout)
  train, test = (_resident(s, resident_bytes) for s in (source.train, source.test))
  return source._replace(train=train, test=test)


def is_encoded(name):
  """Whether a source's images may have to be decoded."""
  return name.partition(":")[0] in ENCODED


def is_resident(name, size, resident_bytes):
  """Whether `load` holds a set of `size` bytes in memory.

  A larger array from the user's own function stays there too, but only loading can tell.
  """
  always = name.partition(":")[0] in READERS and not is_encoded(name)
  return always or size <= resident_bytes


def opened(name, *, info, test):
  """The Source as its reader gives it, unchecked.

  Args:
    name, info: as in `load`; `info` may lack the counts.
    test: whether to look for test files; without, `test` is the training set.
  """
  kind = name.partition(":")[0]
  if kind in READERS:
    return _read(name, READERS[kind], info, test)
  if any(mark in name for mark in ".:") and _is_path(name):
    return _users(name)
  raise ConfigError("source", name, f"write {KINDS}")


def describe(name, *, info):
  """A stand-in for a plan: the counts and shapes of `source_info`, labels in turn, no images.

  With '?label=coarse...' the strata are five times as many as the labels, as in CIFAR-100.
  """
  _check_info(info)
  classes = info["classes"]
  strata = 5 * classes if "?label=coarse" in name else classes

  def stand_in(n):
    place = np.arange(n)
    return ExampleSet(place % classes, place % strata, tuple(info["image"]), None, None)

  return Source(name, stand_in(info["train"]), stand_in(info["test"]), classes)


def _check_info(info):
  for key in ("train", "test", "image", "classes"):
    if key not in info:
      raise ConfigError(f"source_info.{key}", None, "say what the source holds; it is missing")
  sizes = tuple(info["image"])
  if len(sizes) != 3 or not all(isinstance(n, int) and n > 0 for n in sizes):
    raise ConfigError("source_info.image", sizes, "(height, width, channels), whole numbers")
  for key, least in (("train", 1), ("test", 0), ("classes", 1)):
    if not isinstance(info[key], int) or info[key] < least:
      raise ConfigError(f"source_info.{key}", info[key], f"a whole number, at least {least}")


def _read(name, reader, info, test):
  """A Source from a reader."""
  splits = [reader(name, split, info) for split in ("train", "test")[: 2 if test else 1]]
  train, test = _image_set(splits[0]), _image_set(splits[-1])
  classes = splits[0].classes
  if classes is None:  # the format does not tell: as many as the labels need
    tops = [int(np.max(s.labels)) for s in splits if np.size(s.labels)]
    classes = max(tops, default=0) + 1
  return Source(name, train, test, classes)


def _image_set(split):
  if isinstance(split.images, np.ndarray):
    array, read, shape = split.images, None, split.images.shape[1:]
  else:
    array, read, shape = None, split.images, split.images.shape
  return ExampleSet(np.asarray(split.labels), np.asarray(split.strata), tuple(shape), array, read)


def _is_path(name):
  """Whether a name reads 'package.module' or 'package.module:function'."""
  path, colon, function = name.partition(":")
  words = [*path.split("."), *([function] if colon else [])]
  return all(word.isidentifier() for word in words)


def _users(name):
  """The Source that a user's own function returns."""
  path, _, function = name.partition(":")
  missing = f"there is no module {path!r} on the Python path; write {KINDS}"
  module = load_module(path, key="source", value=name, hint=missing)
  make = getattr(module, function or "load", None)
  if not callable(make):
    raise ConfigError("source", name, f"{path} has no function {function or 'load'!r}")
  source = make()
  if not isinstance(source, Source):
    hint = f"must return a kdjax.data.sources.Source, not {type(source).__name__}"
    raise ConfigError("source", name, hint)
  return source


def _check(source, name, info):
  """Raises ConfigError unless both sets are well formed, images and classes as `info` says."""
  for split, images in (("train", source.train), ("test", source.test)):
    n = len(images.labels)
    if n == 0:
      raise ConfigError("source", name, f"holds no {split} image")
    for labels in (images.labels, images.strata):
      if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        hint = f"{split} labels must be whole numbers, one an image, not"
        raise ConfigError("source", name, f"{hint} {labels.dtype}{list(labels.shape)}")
    if len(images.strata) != n:
      raise ConfigError("source", name, f"has {n} {split} labels but {len(images.strata)} strata")
    if images.array is not None and images.array.dtype != np.uint8:
      raise ConfigError("source", name, f"{split} images must be uint8, not {images.array.dtype}")
    if images.array is not None and len(images.array) != n:
      raise ConfigError("source", name, f"has {len(images.array)} {split} images but {n} labels")
    if tuple(images.shape) != tuple(info["image"]):
      hint = f"the {split} images of {name!r} are {tuple(images.shape)}"
      raise ConfigError("source_info.image", tuple(info["image"]), hint)
    low, high = images.labels.min(), images.labels.max()
    if images.strata.min() < 0 or low < 0 or high >= source.classes:
      hint = f"{split} labels must be 0 to {source.classes - 1}, not {low} to {high}"
      raise ConfigError("source", name, hint)
  if source.classes != info["classes"]:
    hint = f"{name!r} has {source.classes} classes"
    raise ConfigError("source_info.classes", info["classes"], hint)


def subset(images, index):
  """The ExampleSet of the examples `index` i64[n] of another."""
  array = None if images.array is None else images.array[index]
  read = None if images.read is None else _Subset(images.read, index)
  return ExampleSet(images.labels[index], images.strata[index], images.shape, array, read)


@dataclasses.dataclass(frozen=True, eq=False)
class _Subset:
  """Reads some of another reader's images; it pickles, for worker processes."""

  read: Callable
  index: np.ndarray

  def __call__(self, index):
    return self.read(self.index[index])


def _hold_out(source, n):
  """The Source whose test set is n of its training images, the same ones in every run."""
  images, total = source.train, len(source.train.labels)
  if not 0 < n < total:
    raise ConfigError("holdout", n, f"fewer than the {total} training images, or 0")
  test = np.sort(host_rng(0, "holdout").choice(total, n, replace=False))
  train = np.setdiff1d(np.arange(total), test)
  return source._replace(train=subset(images, train), test=subset(images, test))


def _resident(images, resident_bytes):
  """The set with i64 labels, and in memory where it fits into `resident_bytes`."""
  labels, strata = images.labels.astype(np.int64), images.strata.astype(np.int64)
  images = dataclasses.replace(images, labels=labels, strata=strata)
  n = len(labels)
  if images.array is not None or n * math.prod(images.shape) > resident_bytes:
    return images
  array = np.empty((n, *images.shape), np.uint8)

  def fill(start):
    stop = min(start + CHUNK, n)
    array[start:stop] = images.read(np.arange(start, stop))

  with ThreadPoolExecutor() as pool:
    list(pool.map(fill, range(0, n, CHUNK)))
  return dataclasses.replace(images, array=array, read=None)
