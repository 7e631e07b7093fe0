"""A source out of arrays in memory."""

import dataclasses
import warnings
from typing import Any

import numpy as np

from kdjax.data.checks import NOTHING, check_source
from kdjax.data.example_set import ExampleSet, Source
from kdjax.types import ConfigError

COLOURS = (1, 3)  # channels of an image
MOST_NAMED = 5  # classes that are named one by one
Pair = tuple[Any, Any]  # examples and labels


def arrays(
  *, train: Pair, test: Pair | None = None, owner: Any = None, name: str = "arrays"
) -> Source:
  """A source of one's own arrays, checked; warns of classes that nobody can learn.

  Args:
    train: (examples, labels): images u8[N, h, w, c] or u8[N, h, w], or features [N, F], which
      become float32; labels [N], whole numbers from 0.
    test: likewise; None: `holdout` in the config takes the test set from the training one.
    owner: whose each training example is, [N], whole numbers from 0: a writer, a hospital. With
      `partition='owner'` client i holds what is i's, with 'table' `counts` counts them; None:
      nobody's in particular.
    name: what runs, tables and reports call it.

  Raises:
    ConfigError: for arrays that are none of these, features that are not finite, or a test set of
      another shape.
  """
  learned = _examples(name, train)
  if owner is not None:
    owners = _owners(owner, learned.labels.size)
    learned = dataclasses.replace(learned, strata=owners, owned=True)
  tested = learned if test is None else _examples(name, test)
  source = Source(name, learned, tested, as_many(learned.labels, tested.labels))
  check_source(source, name, NOTHING)
  if source.classes < 2:
    raise ConfigError("source", name, "all labels are 0: there must be two classes at least")
  empty = np.setdiff1d(np.arange(source.classes), learned.labels)
  if len(empty):
    tested_alone = np.intersect1d(empty, tested.labels)
    also = f", tested all the same: {_some(tested_alone)}" if len(tested_alone) else ""
    warnings.warn(
      f"no training example is of class {_some(empty)}{also}; labels count from 0, here to "
      f"{source.classes - 1}",
      stacklevel=2,
    )
  return source


def as_many(*labels: np.ndarray) -> int:
  """The classes that labels need: those that are no whole numbers, `check_source` refuses."""
  tops = [int(x.max()) for x in labels if x.size and x.dtype.kind in "iu"]
  return max(tops, default=0) + 1


def _some(classes):
  """The first of many numbers."""
  words = ", ".join(map(str, classes[:MOST_NAMED].tolist()))
  return words + (f" and {len(classes) - MOST_NAMED} more" if len(classes) > MOST_NAMED else "")


def _owners(owner, n):
  """The owners i64[n], checked."""
  found = np.asarray(owner)
  if found.shape != (n,) or found.dtype.kind not in "iu" or (n and found.min() < 0):
    what = f"{found.dtype.name}{list(found.shape)}"
    raise ConfigError("owner", what, f"[{n}], a whole number from 0 for each training example")
  return found.astype(np.int64)


def _examples(name, pair):
  if not isinstance(pair, list | tuple) or len(pair) != 2:
    raise ConfigError("source", name, "train and test are each a pair (examples, labels)")
  array, labels = as_examples(np.asarray(pair[0])), np.asarray(pair[1])
  if array.ndim == 4 and array.shape[1] in COLOURS and array.shape[3] not in (*COLOURS, 4):
    warnings.warn(
      f"images are [N, h, w, c], these of {list(array.shape[1:])} have {array.shape[3]} channels: "
      "if they are [N, c, h, w], give images.transpose(0, 2, 3, 1)",
      stacklevel=3,
    )
  return ExampleSet(labels, labels, array.shape[1:], array, None)


def as_examples(array: np.ndarray) -> np.ndarray:
  """Real numbers [N, F] as float32, images [N, h, w] as [N, h, w, 1]; others as they are."""
  if array.ndim == 2 and array.dtype.kind in "fiub":
    return array.astype(np.float32)
  return array[..., None] if array.ndim == 3 else array
