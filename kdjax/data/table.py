"""The csv source: a table with a header, a label column and columns of numbers."""

import contextlib
import csv
import itertools
import warnings
from typing import Any

import numpy as np

from kdjax.data.readers import Split, file, split_name
from kdjax.types import ConfigError

SPLIT = "split"  # the column that says train or test
EXACT = 10**15  # labels from here on could be one float64 for several numbers


def table(name: str, split: str, info: dict[str, Any]) -> Split:
  """One split of 'csv:FILE': features f32[N, F], labels i64[N]; see readers.py.

  The first line names the columns. The labels are the column `label` or, without one, the last;
  '?label=NAME' takes another. The classes are its distinct values in the whole file, sorted (as
  numbers where all are numbers). A column `split` says train or test. All other columns are
  features, in their order. Spaces around a name, a label or a number are no part of it.
  """
  del info
  place, options = split_name(name)
  path = file(name, place)
  columns = _header(name, path)
  label, features = _roles(name, path, columns, options.get("label", "").strip())
  no_table = f"{path} is no table of numbers under a header"
  ragged = _fault(path, columns, [])  # `_read` takes rows of any length that has its columns
  if ragged:
    raise ConfigError("source", name, f"{no_table}: {ragged}")
  try:
    words = _words(path, label)
    rows = _read(path, features, np.float32)
    kept = _splits(name, path, columns, len(words)) == split
  except ConfigError:
    raise
  except (ValueError, OSError) as error:
    fault = _fault(path, columns, features) or error
    raise ConfigError("source", name, f"{no_table}: {fault}") from None
  if SPLIT not in columns and split == "test":
    hint = f"{path} has no column {SPLIT!r} of train and test; holdout=n makes a test set"
    raise ConfigError("source", name, hint)
  infinite = np.argwhere(kept[:, None] & ~np.isfinite(rows))
  if len(infinite):
    row, i = infinite[0]
    raise ConfigError("source", name, f"{_cell(path, columns, row, features[i])}, no finite number")
  labels, classes = _numbered(name, path, columns, label, words)
  return Split(rows[kept], labels[kept], labels[kept], classes)


def _header(name, path):
  """The names of the columns."""
  try:
    with open(path, newline="", encoding="utf-8-sig") as lines:
      return [cell.strip() for cell in next(csv.reader(lines), [])]
  except (ValueError, OSError, csv.Error) as error:
    raise ConfigError("source", name, f"{path} is no table in UTF-8: {error}") from None


def _roles(name, path, columns, chosen):
  """(the label's place, the features' places) among the columns."""
  others = [c for c in columns if c != SPLIT]
  label = chosen or ("label" if "label" in others else others[-1] if others else "")
  names, whole = [c for c in others if c != label], all(map(_is_number, columns))
  named = chosen or "label" in others  # numbers may well be names beside it
  if names and (whole or not named and all(map(_is_number, names))):
    hint = f"{path} seems to lack a header, its first line is {columns[:8]}: add a line above it"
    hint += " that names the columns" + ("" if whole else ", or say ?label=NAME where it does")
    raise ConfigError("source", name, hint)
  if len(set(columns)) < len(columns) or len(others) < 2:
    hint = f"the first line of {path} must name the columns, each once: features and a label"
    raise ConfigError("source", name, f"{hint}, not {columns[:8] or 'be empty'}")
  if label not in others:
    raise ConfigError("source", name, f"has no column {label!r}, only {others}")
  if "" in names:  # pandas writes its row numbers there, which tell the labels of a sorted table
    hint = f"column {columns.index('') + 1} of {path} has no name: name it if it is a feature, else"
    raise ConfigError("source", name, f"{hint} leave it out, in pandas by to_csv(index=False)")
  return columns.index(label), [columns.index(c) for c in names]


def _is_number(word):
  try:
    float(word)
  except ValueError:
    return False
  return "_" not in word  # which is Python's alone


def _read(path, places, dtype):
  """The columns at `places`, [N, len(places)]; empty lines are no rows."""
  how = dict(delimiter=",", quotechar='"', comments=None, skiprows=1, ndmin=2)
  with warnings.catch_warnings():
    warnings.filterwarnings("ignore", ".*contained no data", UserWarning)
    return np.loadtxt(path, dtype, usecols=places, encoding="utf-8", **how)


def _words(path, place):
  """A column of text, str[N], without the spaces around its cells."""
  return np.char.strip(_read(path, [place], str)[:, 0])


def _rows(path):
  """(the line that it begins in, as an editor counts them, its cells) of every row."""
  with open(path, newline="", encoding="utf-8-sig") as lines:
    reader = csv.reader(lines)
    next(reader)
    begins = reader.line_num + 1
    for cells in reader:
      if cells:  # an empty line is no row for `_read`
        yield begins, cells
      begins = reader.line_num + 1


def _cell(path, columns, row, place):
  """What a cell of a row says, and where."""
  return _said(columns, place, *next(itertools.islice(_rows(path), row, None)))


def _said(columns, place, line, cells):
  return f"line {line}, column {columns[place]!r} is {cells[place]!r}"


def _fault(path, columns, features):
  """What is wrong with the first row that is none; '' where nothing is found."""
  with contextlib.suppress(ValueError, csv.Error):  # not even text
    for line, cells in _rows(path):
      if len(cells) != len(columns):
        return f"line {line} has {len(cells)} cells, the first line {len(columns)}"
      for place in features:
        if not _is_number(cells[place]):
          return f"{_said(columns, place, line, cells)}, no number"
  return ""


def _splits(name, path, columns, n):
  """str[n]: the split of every row; all are train where no column says."""
  if SPLIT not in columns:
    return np.full(n, "train")
  words = _words(path, columns.index(SPLIT))
  odd = ~np.isin(words, ("train", "test"))
  _check_cells(name, path, columns, columns.index(SPLIT), odd, "must say train or test")
  return words


def _numbered(name, path, columns, label, words):
  """(i64[N] places of the words among the distinct ones, sorted, how many those are)."""
  _check_cells(name, path, columns, label, words == "", "every row needs its label")
  values = words
  if all(map(_is_number, np.unique(words))):
    values = words.astype(np.float64)
    broken = (values != np.floor(values)) | (abs(values) >= EXACT)
    hint = "labels are whole numbers, of 15 digits at most, or names"
    _check_cells(name, path, columns, label, broken, hint)
  distinct, places = np.unique(values, return_inverse=True)
  if len(distinct) == 1:
    hint = f"all labels are {words[0].item()!r}: there must be two classes at least; ?label=NAME"
    raise ConfigError("source", name, f"{hint} takes another column than {columns[label]!r}")
  return places.astype(np.int64), len(distinct)


def _check_cells(name, path, columns, place, wrong, hint):
  """Refuses the first row whose cell is wrong, bool[N]."""
  if wrong.any():
    cell = _cell(path, columns, int(np.argmax(wrong)), place)
    raise ConfigError("source", name, f"{cell}: {hint}")
