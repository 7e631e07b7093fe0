"""Copies that `python -m kdjax.data.prepare` has written: ArrayRecord files and a JSON index."""

import dataclasses
import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from kdjax.core import files
from kdjax.data.encoded import encoded
from kdjax.data.images import one_record
from kdjax.data.readers import UNREADABLE, Split, directory
from kdjax.types import ConfigError

INDEX, VERSION = "index.json", 1
KEYS = {"image", "classes", "format", "splits"}  # that are read of an index,
SPLIT_KEYS = {"examples", "labels_sha256", "shards"}  # of each of its splits
SHARD_KEYS = {"file", "start", "examples", "bytes", "sha256"}  # and of each of their shards
AGAIN = "run the command that prepares it again: it goes on where it was stopped"


def records(name: str, split: str, info: dict[str, Any]) -> Split:
  """One split of 'records:DIR', random access without TensorFlow and TFDS; see readers.py."""
  root = directory(name, name.partition(":")[2])
  index = read_index(name, root)
  if index is None:
    hint = f"{root} holds no {INDEX}; write it with python -m kdjax.data.prepare"
    raise ConfigError("source", name, hint)
  if split not in index["splits"]:
    hint = f"has no {split} split, only {sorted(index['splits'])}; holdout=n makes a test set"
    raise ConfigError("source", name, hint)
  here = index["splits"][split]
  missing = [s["file"] for s in here["shards"] if not is_there(root, s)]
  if missing:
    hint = f"{len(missing)} of {len(here['shards'])} {split} shards are missing or not whole"
    raise ConfigError("source", name, f"{hint}, {missing[0]} is the first; {AGAIN}")
  labels, strata = read_labels(name, root, split, here)
  images = _images(name, root, index, here, info)
  return Split(images, labels, strata, index["classes"])


def _images(name, root, index, split, info):
  """What reads the images of a split."""
  from array_record.python.array_record_data_source import ArrayRecordDataSource

  paths = [f"{root / s['file']}[0:{s['examples']}]" for s in split["shards"]]
  source, shape = ArrayRecordDataSource(paths), tuple(index["image"])
  if index["format"] == "raw":
    if info["grey"] and shape[2] > 1:
      hint = f"{name} holds pixels as they are: prepare it from grey images, or leave it False"
      raise ConfigError("source_info.grey", True, hint)
    return Raw(name, source, shape)
  info = {**info, "image": (0, 0, 0), "resize": False}
  return encoded(name, _Jpegs(name, source), len(source), channels=shape[2], info=info)


@dataclasses.dataclass(frozen=True, eq=False)
class Raw:
  """Reads pixels that are stored as they are; it pickles, for worker processes."""

  name: str  # the source, as the config spells it
  source: Any  # index -> bytes
  shape: tuple[int, int, int]

  def __call__(self, index: Sequence[int] | np.ndarray) -> np.ndarray:
    """Indices i64[n] -> u8[n, h, w, c]; raises Damaged for a record that holds something else."""
    out = np.empty((len(index), *self.shape), np.uint8)
    for i, place in enumerate(index):
      with one_record(self.name, f"example {place}"):
        out[i] = np.frombuffer(self.source[int(place)], np.uint8).reshape(self.shape)
    return out


@dataclasses.dataclass(frozen=True, eq=False)
class _Jpegs:
  """The `files` of encoded.Encoded."""

  name: str  # the source, as the config spells it
  source: Any  # index -> bytes

  def __call__(self, index: Sequence[int] | np.ndarray) -> list[tuple[str, BinaryIO]]:
    return [self._file(int(i)) for i in index]

  def _file(self, i):
    with one_record(self.name, f"example {i}"):
      return f"example {i}", io.BytesIO(self.source[i])


def read_index(name: str, root: Path) -> dict[str, Any] | None:
  """The index of a copy, or None where there is none; ConfigError for one of another version."""
  path = root / INDEX
  if not path.is_file():
    return None
  try:
    index = json.loads(path.read_bytes())
    version = index["version"]
  except (ValueError, KeyError, TypeError, OSError) as error:
    raise ConfigError("source", name, f"{path} is no index of a copy: {error}") from None
  if version != VERSION:
    hint = f"{path} is of version {version}, this kdjax reads {VERSION}; prepare the set again"
    raise ConfigError("source", name, hint)
  try:
    splits = index["splits"].values()
    shards = [shard for split in splits for shard in split["shards"]]
    levels = ((KEYS, [index]), (SPLIT_KEYS, splits), (SHARD_KEYS, shards))
    whole = all(keys <= set(part) for keys, parts in levels for part in parts)
  except (KeyError, TypeError, AttributeError):
    whole = False
  if not whole:
    raise ConfigError("source", name, f"{path} is damaged: it lacks entries; prepare the set again")
  return index


def is_there(root: Path, shard: dict[str, Any]) -> bool:
  """Whether a shard was finished and its file is as long as it was then."""
  path = root / shard["file"]
  return shard["sha256"] is not None and path.is_file() and path.stat().st_size == shard["bytes"]


def label_file(root: Path, split: str) -> Path:
  """The npz file with a split's `labels` and `strata`, both i64[N]."""
  return root / f"{split}_labels.npz"


def labels_sha256(labels: np.ndarray, strata: np.ndarray) -> Any:  # a hashlib object
  """The checksum of labels and strata, i64[N] each."""
  return hashlib.sha256(b"".join(np.asarray(x, "<i8").tobytes() for x in (labels, strata)))


def read_labels(
  name: str, root: Path, split: str, entry: dict[str, Any]
) -> tuple[np.ndarray, np.ndarray]:
  """(labels i64[N], strata i64[N]) of a split; ConfigError where they are not those of the copy."""
  path = label_file(root, split)
  try:
    with np.load(path, allow_pickle=False) as file:
      labels, strata = file["labels"], file["strata"]
  except (*UNREADABLE, KeyError) as error:
    raise ConfigError("source", name, f"{path} cannot be read: {error}; {AGAIN}") from None
  if labels_sha256(labels, strata).hexdigest() != entry["labels_sha256"]:
    raise ConfigError("source", name, f"{path} is damaged: another checksum; {AGAIN}")
  return labels, strata


def write_labels(root: Path, split: str, labels: np.ndarray, strata: np.ndarray) -> None:
  """Writes what `read_labels` reads."""
  file = io.BytesIO()
  np.savez(file, labels=np.asarray(labels, np.int64), strata=np.asarray(strata, np.int64))
  files.replace(label_file(root, split), file.getvalue())


def write_index(root: Path, index: dict[str, Any]) -> None:
  """Replaces the index of a copy."""
  files.replace(root / INDEX, json.dumps(index, indent=1).encode() + b"\n")
