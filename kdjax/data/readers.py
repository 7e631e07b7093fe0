"""Reads one split of a data set that fits in memory: digits, IDX, CIFAR binary and npz files.

Every reader is `(name, split, info) -> Split`: `name` is the source as the config spells it,
`split` 'train' or 'test', `info` what `checks.check_info` returned, zeros where nothing is given.
Every reader raises ConfigError for files that are missing or are not what they should be.
"""

import functools
import gzip
import math
import zipfile
import zlib
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import numpy as np

from kdjax.core.random import host_rng
from kdjax.data.arrays import as_examples
from kdjax.types import ConfigError

# What Python raises for archives that are damaged; a changed header may ask for a password.
UNREADABLE = (ValueError, OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)


class Split(NamedTuple):
  """What a reader returns for one split."""

  examples: Any  # u8[N, h, w, c], f32[N, F], or indices i64[n] -> u8[n, h, w, c] with a `shape`
  labels: np.ndarray  # [N], integers
  strata: np.ndarray  # [N], what partitions count by, see ExampleSet
  classes: int | None  # C; None where the format does not tell


def split_name(name: str) -> tuple[str, dict[str, str]]:
  """(place, {option: value}) of a source 'kind:place?option=value'; the only option is `label`."""
  place, _, query = name.partition(":")[2].partition("?")
  options = dict(parse_qsl(query, keep_blank_values=True))
  if set(options) - {"label"} or (query and not options):
    raise ConfigError("source", name, "the only option is ?label=..., after the place")
  return place, options


def directory(name: str, place: str) -> Path:
  """The Path of a folder that must be there."""
  path = Path(place).expanduser()
  if not place or not path.is_dir():
    raise ConfigError("source", name, f"there is no folder {place!r} (from {Path.cwd()})")
  return path


def file(name: str, place: str) -> Path:
  """The Path of a file that must be there."""
  path = Path(place).expanduser()
  if not path.is_file():
    raise ConfigError("source", name, f"there is no file {place!r} (from {Path.cwd()})")
  return path


def digits(name: str, split: str, info: dict[str, Any]) -> Split:
  """Scikit-learn's 1,797 digits 8x8: u8 = round(v * 255 / 16), 36 test images a class, fixed."""
  del info
  if name != "digits":
    raise ConfigError("source", name, "digits takes no further words; write 'digits'")
  images, labels = _digits()
  rng = host_rng(0, "digits split")
  test = [rng.choice(np.flatnonzero(labels == c), 36, replace=False) for c in range(10)]
  in_test = np.isin(np.arange(len(labels)), np.concatenate(test))
  keep = in_test if split == "test" else ~in_test
  return Split(images[keep], labels[keep], labels[keep], 10)


@functools.cache
def _digits():
  """(images, labels), parsed from text once for both splits."""
  from sklearn.datasets import load_digits  # not needed by any other source

  data = load_digits()
  images = np.rint(data.images * 255 / 16).astype(np.uint8)[..., None]
  return images, data.target.astype(np.int64)


def idx(name: str, split: str, info: dict[str, Any]) -> Split:
  """MNIST and its family: `train-images-idx3-ubyte` and the other three files, plain or .gz."""
  del info
  folder = directory(name, name.partition(":")[2])
  stem = {"train": "train", "test": "t10k"}[split]
  images = _idx_file(name, folder / f"{stem}-images-idx3-ubyte", 3)[..., None]
  labels = _idx_file(name, folder / f"{stem}-labels-idx1-ubyte", 1)
  return Split(images, labels, labels, None)


def _idx_file(name, path, rank):
  packed = path.with_name(path.name + ".gz")
  if not path.is_file() and not packed.is_file():
    raise ConfigError("source", name, f"needs the file {path} or {packed.name} beside it")
  try:
    raw = path.read_bytes() if path.is_file() else gzip.decompress(packed.read_bytes())
  except UNREADABLE as error:
    raise ConfigError("source", name, f"{packed} is damaged: {error}") from None
  # Two zero bytes, the type (8: unsigned byte), the rank, then every size as a big-endian u32.
  if raw[:4] != bytes([0, 0, 8, rank]):
    hint = f"{path} is no IDX file of unsigned bytes with {rank} dimensions"
    raise ConfigError("source", name, f"{hint} (it starts with {raw[:4].hex()!r})")
  start = 4 + 4 * rank
  shape = np.frombuffer(raw[4:start].ljust(4 * rank, b"\0"), ">u4").tolist()
  if len(raw) - start != math.prod(shape):
    hint = f"{path} should hold {shape} bytes after its header but holds {len(raw) - start}"
    raise ConfigError("source", name, hint)
  return np.frombuffer(raw, np.uint8, offset=start).reshape(shape)


def cifar(name: str, split: str, info: dict[str, Any]) -> Split:
  """CIFAR-10 or CIFAR-100, binary version; '?label=coarse' takes CIFAR-100's 20 coarse labels."""
  del info
  place, options = split_name(name)
  folder = directory(name, place)
  if (folder / "train.bin").is_file():
    return _cifar100(name, folder / f"{split}.bin", options.get("label", "fine"))
  if options:
    raise ConfigError("source", name, "?label= is for CIFAR-100, whose folder holds train.bin")
  batches = [f"data_batch_{i}.bin" for i in range(1, 6)]
  files = batches if split == "train" else ["test_batch.bin"]
  rows = np.concatenate([_cifar_file(name, folder / f, 1) for f in files])
  return Split(_planes(rows[:, 1:]), rows[:, 0], rows[:, 0], 10)


def _cifar100(name, path, label):
  if label not in ("fine", "coarse"):
    raise ConfigError("source", name, "CIFAR-100 has ?label=fine and ?label=coarse")
  rows = _cifar_file(name, path, 2)
  coarse, fine = rows[:, 0], rows[:, 1]
  labels, classes = (fine, 100) if label == "fine" else (coarse, 20)
  return Split(_planes(rows[:, 2:]), labels, fine, classes)


def _cifar_file(name, path, label_bytes):
  """The records of one file, u8[N, label_bytes + 3072]."""
  if not path.is_file():
    hint = "the binary version holds data_batch_1.bin to data_batch_5.bin and test_batch.bin"
    raise ConfigError(
      "source", name, f"{path} is not there; {hint} (CIFAR-100: train.bin, test.bin)"
    )
  raw = np.fromfile(path, np.uint8)
  size = label_bytes + 3072
  if len(raw) == 0 or len(raw) % size:
    hint = f"{path} has {len(raw)} bytes, not a multiple of {size}; take the binary version"
    raise ConfigError("source", name, hint)
  return raw.reshape(-1, size)


def _planes(rows):
  return np.ascontiguousarray(rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))


def npz(name: str, split: str, info: dict[str, Any]) -> Split:
  """Arrays of one npz file; nothing is unpickled.

  `SPLIT_images` u8[N, h, w(, c)] or `SPLIT_features`, real numbers [N, F]; and `SPLIT_labels`.
  """
  del info
  path = file(name, name.partition(":")[2])
  try:
    if not zipfile.is_zipfile(path):
      raise ValueError("no zip archive")
    with np.load(path, allow_pickle=False) as stored:
      found = sorted(stored)
      kind = "features" if f"{split}_features" in found else "images"
      keys = [f"{split}_{kind}", f"{split}_labels"]
      missing = [k for k in keys if k not in found]
      read = {k: stored[k] for k in keys if k in found}
  except UNREADABLE as error:
    raise ConfigError("source", name, f"is no readable npz file of plain arrays: {error}") from None
  if missing:
    hint = f"lacks the arrays {missing}; it holds {found}"
    raise ConfigError("source", name, f"{hint}. Tables go by {split}_features [N, F]")
  examples, labels = (read[k] for k in keys)
  if (examples.ndim == 2) != (kind == "features"):
    hint = f"{keys[0]} must be [N, F] of features, [N, h, w] or [N, h, w, c] of images, not"
    raise ConfigError("source", name, f"{hint} {list(examples.shape)}")
  return Split(as_examples(examples), labels, labels, None)
