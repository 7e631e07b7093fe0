"""The csv source: a table with a header, a label column and columns of numbers."""

import csv
import re
import warnings
from typing import Any

import numpy as np

from kdjax.data.readers import Split, file, split_name
from kdjax.types import ConfigError

SPLIT = "split"  # the column that says train or test


def table(name: str, split: str, info: dict[str, Any]) -> Split:
  """One split of 'csv:FILE': features f32[N, F], labels i64[N]; see readers.py.

  The first line names the columns. The labels are the column `label` or, without one, the last;
  '?label=NAME' takes another. The classes are its distinct values in the whole file, sorted (as
  numbers where all are numbers). A column `split` says train or test. All other columns are
  features, in their order.
  """
  del info
  place, options = split_name(name)
  path = file(name, place)
  try:
    with open(path, newline="", encoding="utf-8-sig") as lines:
      columns = next(csv.reader(lines), [])
    label, features = _roles(name, columns, options.get("label"))
    words = _read(path, [label], str)[:, 0]
    rows = _read(path, features, np.float32)
    kept = _splits(name, path, columns, len(words)) == split
  except ConfigError:
    raise
  except (ValueError, OSError) as error:
    hint = f"{path} is no table of numbers under a header: {_where(columns, error)}"
    raise ConfigError("source", name, hint) from None
  if SPLIT not in columns and split == "test":
    hint = f"{path} has no column {SPLIT!r} of train and test; holdout=n makes a test set"
    raise ConfigError("source", name, hint)
  labels, classes = _numbered(name, columns[label], words)
  return Split(rows[kept], labels[kept], labels[kept], classes)


def _roles(name, columns, chosen):
  """(the label's place, the features' places) among the columns."""
  others = [c for c in columns if c != SPLIT]
  if len(set(columns)) < len(columns) or len(others) < 2 or all(map(_is_number, columns)):
    hint = "the first line must name the columns, each once: features and a label"
    raise ConfigError("source", name, f"{hint}, not {columns[:8]}")
  label = chosen or ("label" if "label" in others else others[-1])
  if label not in others:
    raise ConfigError("source", name, f"has no column {label!r}, only {others}")
  return columns.index(label), [columns.index(c) for c in others if c != label]


def _is_number(word):
  try:
    float(word)
  except ValueError:
    return False
  return True


def _read(path, places, dtype):
  """The columns at `places`, [N, len(places)]."""
  how = dict(delimiter=",", quotechar='"', comments=None, skiprows=1, ndmin=2)
  with warnings.catch_warnings():
    warnings.filterwarnings("ignore", "loadtxt: input contained no data")
    return np.loadtxt(path, dtype, usecols=places, encoding="utf-8", **how)


def _where(columns, error):
  """NumPy's words; of a cell that is no number its row and the column's name."""
  found = re.search(r"string (.*) to float32 at row (\d+), column (\d+)", str(error))
  if not found:
    return error
  place = int(found[3]) - 1  # NumPy counts rows from 0, columns from 1
  return f"row {found[2]}, column {columns[place]!r} is {found[1]}, no number"


def _splits(name, path, columns, n):
  """str[n]: the split of every row; all are train where no column says."""
  if SPLIT not in columns:
    return np.full(n, "train")
  words = _read(path, [columns.index(SPLIT)], str)[:, 0]
  odd = set(words.tolist()) - {"train", "test"}
  if odd:
    hint = f"its column {SPLIT!r} must say train or test, not {sorted(odd)[0]!r}"
    raise ConfigError("source", name, hint)
  return words


def _numbered(name, column, words):
  """(i64[N] places of the words among the distinct ones, sorted, how many those are)."""
  if (words == "").any():
    row = int(np.argmax(words == ""))
    raise ConfigError("source", name, f"row {row} has no {column!r}: every row needs its label")
  values = words.astype(np.float64) if all(map(_is_number, np.unique(words))) else words
  distinct, places = np.unique(values, return_inverse=True)
  return places.astype(np.int64), len(distinct)
