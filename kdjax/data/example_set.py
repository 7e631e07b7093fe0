"""Labelled examples, images or rows of a table, in memory or read where they are needed."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from kdjax.core.random import host_rng
from kdjax.data.images import Damaged, refuse
from kdjax.types import ConfigError

CHUNK = 256  # examples a thread reads at a time

Holdout = int | Sequence[int]  # the config's `holdout`: n, or (n, m)

# (a half's name, indices i64[n], ascending) -> their examples, in parts.
ReadParts = Callable[[str, np.ndarray], Iterable[np.ndarray]]


def is_table(shape: tuple[int, ...]) -> bool:
  """Whether examples of this shape are rows of features (F,), not images (h, w, c)."""
  return len(shape) == 1


@dataclasses.dataclass(frozen=True, eq=False)
class ExampleSet:
  """N labelled examples: images u8[N, h, w, c] or features f32[N, F]."""

  labels: np.ndarray  # i64[N]
  strata: np.ndarray  # i64[N], what partitions count: labels (CIFAR-100: the fine ones), or owners
  shape: tuple[int, ...]  # (h, w, c) or (F,)
  array: np.ndarray | None  # [N, *shape], where the set is in memory
  read: Callable[[np.ndarray], np.ndarray] | None  # indices i64[n] -> [n, *shape], where it is not
  owned: bool = False  # whether the strata are owners for sure, the labels' equals or not

  @property
  def dtype(self) -> np.dtype:
    """float32 of features, uint8 of images."""
    return np.dtype(np.float32 if is_table(self.shape) else np.uint8)

  def fetch(self, index: np.ndarray) -> np.ndarray:
    """Examples [n, *shape] of the indices i64[n]; raises ValueError for a stand-in."""
    if self.array is not None:
      return self.array[index]
    if self.read is None:
      raise ValueError("this set only stands in for its data, in a plan: it holds no examples")
    return self.read(np.asarray(index))


class Source(NamedTuple):
  """Training and test examples of one task."""

  name: str
  train: ExampleSet
  test: ExampleSet
  classes: int  # C


def subset(examples: ExampleSet, index: np.ndarray) -> ExampleSet:
  """The ExampleSet of the examples `index` i64[n] of another."""
  array = None if examples.array is None else examples.array[index]
  read = None if examples.read is None else _Subset(examples.read, index)
  labels, strata = examples.labels[index], examples.strata[index]
  return dataclasses.replace(examples, labels=labels, strata=strata, array=array, read=read)


@dataclasses.dataclass(frozen=True, eq=False)
class _Subset:
  """Reads some of another reader's examples; it pickles, for worker processes."""

  read: Callable
  index: np.ndarray

  def __call__(self, index):
    return self.read(self.index[index])


def held_out(holdout: Holdout) -> tuple[int, int]:
  """(examples that are left out altogether, examples that are tested) of the config's `holdout`."""
  return (0, holdout) if isinstance(holdout, int) else (holdout[0], holdout[1])


def hold_out(source: Source, holdout: Holdout) -> Source:
  """The Source whose test set is some of its training examples, the same ones in every run.

  Args:
    source: whose test set is not looked at.
    holdout: n: so many are tested. (n, m): m are tested, none of them among those that n alone
      takes, and nothing of either is trained on.

  Raises:
    ConfigError: unless they are above 0, and fewer than the N training examples.
  """
  total = len(source.train.labels)
  apart, tested = held_out(holdout)
  if tested <= 0 or apart < 0 or apart + tested >= total:
    hint = f"0, or above 0 and together fewer than the {total} training examples"
    raise ConfigError("holdout", holdout, hint)
  place = np.arange(total)
  first = test = host_rng(0, "holdout").choice(total, apart or tested, replace=False)
  if apart:
    others = np.setdiff1d(place, first)
    test = host_rng(0, "holdout", "second").choice(others, tested, replace=False)
  train, test = np.setdiff1d(place, np.union1d(first, test)), np.sort(test)
  return source._replace(train=subset(source.train, train), test=subset(source.train, test))


def resident(examples: ExampleSet, resident_bytes: float) -> ExampleSet:
  """The set with i64 labels, and in memory where it fits into `resident_bytes`.

  Raises:
    ConfigError: for images that cannot be decoded; names the first, and says how many.
  """
  labels, strata = (x.astype(np.int64) for x in (examples.labels, examples.strata))
  examples = dataclasses.replace(examples, labels=labels, strata=strata)
  n, size = len(labels), math.prod(examples.shape) * examples.dtype.itemsize
  if examples.array is not None or n * size > resident_bytes:
    return examples
  array = np.empty((n, *examples.shape), examples.dtype)

  def fill(places):
    """The Damaged among these places, which are filled."""
    try:
      array[places] = examples.read(places)
    except Damaged as error:
      return [error] if len(places) == 1 else [e for i in places for e in fill(np.array([i]))]
    return []

  with ThreadPoolExecutor() as pool:
    chunks = (np.arange(start, min(start + CHUNK, n)) for start in range(0, n, CHUNK))
    refuse([error for some in pool.map(fill, chunks) for error in some], n)
  return dataclasses.replace(examples, array=array, read=None)
