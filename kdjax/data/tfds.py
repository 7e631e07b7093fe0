"""Data sets that TFDS has prepared as ArrayRecord files, read without TensorFlow and network."""

import concurrent.futures
import contextlib
import dataclasses
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from kdjax.core import files
from kdjax.data.encoded import encoded
from kdjax.data.images import one_record
from kdjax.data.readers import Split, split_name
from kdjax.types import ConfigError

CHUNK = 256  # records a thread reads at a time


def tfds(name: str, split: str, info: dict[str, Any]) -> Split:
  """One split of 'tfds:NAME' from $TFDS_DATA_DIR or ~/tensorflow_datasets; see readers.py.

  NAME is TFDS's: 'mnist', 'imagenet2012:5.1.0', 'NAME/CONFIG'. '?label=KEY' takes another feature
  for the labels ('tfds:cifar100?label=coarse_label'); the strata are always TFDS's own label. The
  test split is `test` or, where there is none, `validation`.

  The first run reads every record once for its label and keeps the labels beside the records, as
  `kdjax_SPLIT_KEY.npy`, where the folder can be written.
  """
  place, options = split_name(name)
  folder = _prepared(name, place)
  import tensorflow_datasets  # after the check; takes a second

  builder = tensorflow_datasets.builder_from_directory(str(folder))
  if split == "test" and "test" not in builder.info.splits:
    split = "validation"
  if split not in builder.info.splits:
    hint = f"has no {split} split, only {sorted(builder.info.splits)}; holdout=n makes a test set"
    raise ConfigError("source", name, hint)
  image_key, stratum_key = builder.info.supervised_keys or (None, None)
  features = builder.info.features
  if image_key is None or not isinstance(features[image_key], tensorflow_datasets.features.Image):
    raise ConfigError("source", name, f"is no set of images with one label: {features}")
  label_key = options.get("label", stratum_key)
  if label_key not in features:
    raise ConfigError("source", name, f"has no feature {label_key!r}, only {sorted(features)}")
  skip = {image_key: tensorflow_datasets.decode.SkipDecoding()}
  source = builder.as_data_source(split, decoders=skip, file_format="array_record")
  strata = _labels(name, source, stratum_key, folder / f"kdjax_{split}_{stratum_key}.npy")
  labels = strata
  if label_key != stratum_key:
    labels = _labels(name, source, label_key, folder / f"kdjax_{split}_{label_key}.npy")
  channels = features[image_key].shape[-1] or 0  # 0: the files tell
  files = Records(name, source, image_key)
  images = encoded(name, files, len(source), channels=channels, info=info)
  return Split(images, labels, strata, getattr(features[label_key], "num_classes", None))


@dataclasses.dataclass(frozen=True, eq=False)
class Records:
  """The `files` of Encoded for a random-access source of {key: bytes, ...}; it pickles."""

  name: str  # the source, as the config spells it
  source: Any  # its `__getitems__` would start a thread a shard in every call
  key: str

  def __call__(self, index: Sequence[int] | np.ndarray) -> list[tuple[str, BinaryIO]]:
    """Indices -> [(name, binary stream)], one read after another."""
    return [self._file(int(i)) for i in index]

  def _file(self, i):
    with one_record(self.name, f"example {i}"):
      return f"example {i}", io.BytesIO(self.source[i][self.key])


def _prepared(name, place):
  """The folder of the newest prepared version, found on disk: TFDS would first ask the network."""
  place, _, version = place.partition(":")
  root = Path(os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")).expanduser()
  infos = sorted((root / place).glob("**/dataset_info.json")) if place else []
  folders = [path.parent for path in infos if version in ("", path.parent.name)]
  ready = [folder for folder in folders if "array_record" in _formats(folder)]
  if not ready:
    raise ConfigError("source", name, _how_to_prepare(place or "NAME", root, folders))
  if len({folder.parent for folder in ready}) > 1:
    options = [str(folder.parent.relative_to(root)) for folder in ready]
    raise ConfigError("source", name, f"is prepared in several configurations; name one: {options}")
  return max(ready, key=lambda folder: [int(n) for n in folder.name.split(".") if n.isdigit()])


def _formats(folder):
  info = json.loads((folder / "dataset_info.json").read_text())
  return [info.get("fileFormat"), *info.get("alternativeFileFormats", [])]


def _how_to_prepare(place, root, others):
  """What to type, for a set that is not there or is there in `others`, folders of other formats."""
  steps = [f"no ArrayRecord files under {root / place}; prepare them once, with TensorFlow:"]
  steps.append("pip install 'kdjax[prepare]'")
  if others:
    command = f"tfds convert_format --dataset_version_dir={others[-1]}"
    steps.append(f"{command} --out_file_format=array_record")
  else:
    if place.startswith("imagenet2012"):
      manual = root / "downloads" / "manual"
      tars = "ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar"
      steps.append(f"(put {tars} into {manual} by hand)")
    steps.append(f"tfds build {place} --file_format=array_record --data_dir={root}")
  steps.append("Without any download: --config=mhd_digits")
  return "\n  ".join(steps)


def _labels(name, source, key, path):
  """Labels i64[N] of all records, from the file `path` where it fits."""
  n = len(source)
  with contextlib.suppress(OSError, ValueError, EOFError):
    labels = np.load(path, allow_pickle=False)
    if labels.shape == (n,) and labels.dtype == np.int64:
      return labels

  def read(start):
    places = range(start, min(start + CHUNK, n))
    with one_record(name, f"the label of one of the examples {start} to {places[-1]}"):
      return [r[key] for r in source.__getitems__(list(places))]

  with concurrent.futures.ThreadPoolExecutor() as pool:
    parts = list(pool.map(read, range(0, n, CHUNK)))
  labels = np.array([label for part in parts for label in part], np.int64)
  file = io.BytesIO()
  np.save(file, labels)
  with contextlib.suppress(OSError):  # a read-only folder: read again next time
    files.replace(path, file.getvalue())
  return labels
