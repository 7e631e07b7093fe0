"""The hf source: data sets of the `datasets` library that are on this machine already."""

import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from kdjax.data.arrays import as_examples
from kdjax.data.encoded import encoded
from kdjax.data.readers import Split, split_name
from kdjax.types import ConfigError


def hf(name: str, split: str, info: dict[str, Any]) -> Split:
  """One split of 'hf:NAME', 'hf:NAME/CONFIG' or 'hf:DIR'; see readers.py. Nothing is downloaded.

  NAME is the hub's and is read from the cache of `datasets`; DIR was written by `save_to_disk`. The
  labels are the only column of class labels or, without one, the column `label`; '?label=NAME'
  takes another. Examples are the only column of images or, without one, all other columns, numbers
  or lists of numbers, side by side. The test split is `test` or, without one, `validation`.
  """
  place, options = split_name(name)
  rows = _split(name, _opened(name, place), split)
  label, classes = _label(name, rows.features, options.get("label"))
  labels = _columns(rows, [label])[label]
  pictures = [c for c, kind in rows.features.items() if type(kind).__name__ == "Image"]
  if len(pictures) > 1:
    raise ConfigError("source", name, f"has several columns of images, {pictures}: keep one")
  if pictures:
    examples = encoded(name, _images(rows, *pictures), len(rows), channels=0, info=info)
  else:
    examples = _features(name, rows, [c for c in rows.column_names if c != label])
  return Split(examples, labels, labels, classes)


def _opened(name, place):
  """{split: datasets.Dataset} of a folder, or of what the cache holds."""
  try:
    import datasets  # an extra, and slow to import
  except ImportError:
    hint = "needs the package datasets: pip install 'kdjax[hf]'"
    raise ConfigError("source", name, hint) from None
  if not place:
    raise ConfigError("source", name, "name a data set: hf:NAME, hf:NAME/CONFIG or hf:DIR")
  folder = Path(place).expanduser()
  return _from_folder(datasets, name, folder) if folder.is_dir() else _from_cache(name, place)


def _from_cache(name, place):
  """Looks in the cache alone, where `load_dataset` would ask the hub first."""
  from datasets.packaged_modules.cache.cache import Cache

  *owner, last = place.split("/")  # a configuration, or the data set itself
  names = [(place, None)] if len(owner) < 2 else []
  names += [("/".join(owner), last)] if owner else []
  problems = []
  for repository, config in names:
    found = dict(repo_id=repository, dataset_name=repository.rpartition("/")[2])
    try:
      return Cache(**found, config_name=config, version="auto", hash="auto").as_dataset()
    except (ValueError, OSError) as error:
      problems.append(str(error))
  said = "; ".join(problems).replace("\n", " ").replace("\t", "")
  hint = f"is neither a folder nor in the cache of datasets ({said}); where there is a network, "
  hint += 'once: python -c "import datasets; datasets.load_dataset(NAME, CONFIG)"'
  raise ConfigError("source", name, hint)


def _from_folder(datasets, name, path):
  try:
    found = datasets.load_from_disk(str(path))
  except (OSError, ValueError) as error:
    hint = f"{path} is no folder that save_to_disk wrote: {error}"
    raise ConfigError("source", name, hint) from None
  return {"train": found} if isinstance(found, datasets.Dataset) else found


def _split(name, splits, split):
  for here in ("test", "validation") if split == "test" else (split,):
    if here in splits:
      return splits[here]
  hint = f"has no {split} split, only {sorted(splits)}; holdout=n makes a test set"
  raise ConfigError("source", name, hint)


def _label(name, features, chosen):
  """(the label's column, C or None where it does not tell)."""
  named = [c for c, kind in features.items() if type(kind).__name__ == "ClassLabel"]
  label = chosen or (named[0] if len(named) == 1 else "label")
  if label not in features:
    hint = f"has no column {label!r}; choose one with ?label=NAME: {list(features)}"
    raise ConfigError("source", name, hint)
  kind = features[label]
  if label not in named and not str(getattr(kind, "dtype", "")).startswith(("int", "uint")):
    hint = f"its column {label!r} holds no class numbers but {kind}: class_encode_column numbers it"
    raise ConfigError("source", name, hint)
  return label, getattr(kind, "num_classes", None)


def _columns(rows, columns):
  return rows.select_columns(columns).with_format("numpy")[:]


def _features(name, rows, columns):
  """f32[N, F]: the columns side by side, in order."""
  read, parts = _columns(rows, columns), []
  for column in columns:
    values = np.asarray(read[column]) if isinstance(read[column], np.ndarray) else None
    if values is None or values.dtype.kind not in "fiub" or values.ndim > 2:
      hint = f"its column {column!r} holds no numbers or lists of one length: remove_columns"
      raise ConfigError("source", name, hint)
    parts.append(values.reshape(len(rows), -1))
  if not parts:
    raise ConfigError("source", name, "has no column beside its labels")
  return as_examples(np.concatenate(parts, axis=1))


def _images(rows, column):
  import datasets

  return _Images(rows.select_columns([column]).cast_column(column, datasets.Image(decode=False)))


@dataclasses.dataclass(frozen=True, eq=False)
class _Images:
  """The `files` of Encoded for a column of images; it pickles, for worker processes."""

  rows: Any  # datasets.Dataset of one column, {"bytes", "path"}

  def __call__(self, index: Sequence[int] | np.ndarray) -> list[tuple[str, Path | BinaryIO]]:
    """Indices -> [(name, a path or a binary stream)]."""
    found = [next(iter(self.rows[int(i)].values())) for i in index]
    places = [io.BytesIO(x["bytes"]) if x["bytes"] is not None else Path(x["path"]) for x in found]
    return [(f"example {i}", place) for i, place in zip(index, places, strict=True)]
