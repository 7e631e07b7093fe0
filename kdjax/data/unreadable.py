"""Images that can no longer be read in the middle of a run: replaced by a fixed rule, and counted.

A black image takes such an image's place, under its own label: whose it is stays the same, no other
client's example is shown instead, and a resumed run reads the same. An image counts once, however
often it is met.
"""

import dataclasses
import sys
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from kdjax.core import agreement, hosts
from kdjax.data.example_set import ExampleSet
from kdjax.data.images import Damaged
from kdjax.types import TrainingError

NAMED = 3  # that are named on standard error


@dataclasses.dataclass(frozen=True, eq=False)
class Replacing:
  """Reads examples, black ones for those that are damaged; it pickles, for worker processes."""

  read: Callable[[np.ndarray], np.ndarray]  # indices i64[n] -> [n, *shape]
  shape: tuple[int, ...]
  dtype: np.dtype

  def __call__(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices i64[n] -> (examples [n, *shape], bool[n]: which are damaged)."""
    damaged = np.zeros(len(index), bool)
    try:
      return self.read(index), damaged
    except Damaged:
      out = np.zeros((len(index), *self.shape), self.dtype)
    for i in range(len(index)):
      try:
        out[i] = self.read(index[i : i + 1])[0]
      except Damaged:
        damaged[i] = True
    return out, damaged


def replacing(examples: ExampleSet) -> Replacing:
  """What reads a set that is not in memory."""
  assert examples.read is not None
  return Replacing(examples.read, examples.shape, examples.dtype)


class Unreadable:
  """Which images a run could not read, by the set that they belong to."""

  def __init__(self, sets: dict[str, ExampleSet], share: float) -> None:
    """None yet; more than `share` of a set are too many.

    Args:
      sets: {name: ExampleSet}; one that is there twice counts under its first name.
      share: 0..1, `faults.images` of the config.
    """
    self.sets, self.share = sets, share
    self.places: dict[str, set[int]] = {name: set() for name in sets}

  def note(self, name: str, places: Iterable[int]) -> None:
    """Counts damaged images of a set.

    Raises:
      TrainingError: for too many; names the last.
    """
    examples = self.sets[name]
    name = next(other for other, one in self.sets.items() if one is examples)
    for place in sorted({int(p) for p in places} - self.places[name]):
      self.places[name].add(place)
      self._judge(name, place)
      if len(self.places[name]) <= NAMED:
        what = _why(examples, place)
        print(f"kdjax: a black image takes the place of one: {what}", file=sys.stderr)

  def _judge(self, name, last):
    """Raises TrainingError where too many images of a set cannot be read; names the last."""
    examples, count = self.sets[name], len(self.places[name])
    if count > self.share * len(examples.labels):
      total = f"{count:,} of {len(examples.labels):,} {name} images cannot be read"
      hint = f"more than faults.images = {self.share:g} allows; the last checkpoint is whole"
      raise TrainingError(f"{total}, {hint}: {_why(examples, last)}")

  def unite(self) -> None:
    """Counts what other processes found, too; all have to call it.

    Raises:
      TrainingError: for too many, in all of them.
    """
    if hosts.alone():
      return
    for name, examples in self.sets.items():
      own = np.zeros(len(examples.labels), np.uint64)
      own[list(self.places[name])] = 1
      if agreement.anywhere(bool(own.any())):
        self.places[name] = set(np.flatnonzero(agreement.added(own)).tolist())
        self._judge(name, max(self.places[name]))

  def fetch_from(self, examples: ExampleSet, index: np.ndarray) -> np.ndarray:
    """The same for one of the sets."""
    return self.fetch(next(n for n, one in self.sets.items() if one is examples), index)

  def fetch(self, name: str, index: np.ndarray) -> np.ndarray:
    """`ExampleSet.fetch`, with black images for those that are damaged, which are counted."""
    examples = self.sets[name]
    if examples.array is not None or examples.read is None:
      return examples.fetch(index)
    out, damaged = replacing(examples)(np.asarray(index))
    self.note(name, np.asarray(index)[damaged])
    return out

  @property
  def count(self) -> int:
    """Of all sets."""
    return sum(map(len, self.places.values()))

  def record(self) -> dict[str, list[int]]:
    """For a checkpoint: {set: places, ascending}."""
    return {name: sorted(places) for name, places in self.places.items()}

  def restore(self, record: dict[str, Any]) -> None:
    """Goes on from what `record` returned."""
    self.places = {name: set(record.get(name, ())) for name in self.sets}


def _why(examples, place):
  try:
    examples.read(np.array([place]))
  except Damaged as error:
    return error.hint
  return f"example {place}, which can be read again"
