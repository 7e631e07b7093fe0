"""The folder source: a folder of image files for every class."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from kdjax.data.encoded import encoded
from kdjax.data.readers import Split, directory
from kdjax.types import ConfigError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".pgm", ".ppm", ".tif", ".tiff", ".webp")


def folder(name: str, split: str, info: dict[str, Any]) -> Split:
  """`DIR/train/CLASS/*` and `DIR/test/CLASS/*`; classes are numbered by their sorted names.

  Without a shape in `source_info`, that of the files, which must then be one; see `encoded`.
  """
  root = directory(name, name.partition(":")[2])
  wanted = root / split
  if not wanted.is_dir():
    hint = f"needs the folders {root}/train/CLASS and, unless holdout > 0, {root}/test/CLASS"
    raise ConfigError("source", name, f"{hint}; {wanted} is not there")
  classes = _classes(root / "train")
  if _classes(wanted) != classes:
    odd = sorted(set(_classes(wanted)) ^ set(classes))
    raise ConfigError("source", name, f"train and test must hold the same classes; {odd} are not")
  paths, labels = [], []
  for label, folder_name in enumerate(classes):
    found = sorted(p for p in (wanted / folder_name).iterdir() if p.suffix.lower() in SUFFIXES)
    if not found:
      hint = f"{wanted / folder_name} holds no image; files must end in {', '.join(SUFFIXES)}"
      raise ConfigError("source", name, hint)
    paths += [str(p.relative_to(root)) for p in found]
    labels += [label] * len(found)
  if not paths:
    raise ConfigError("source", name, f"{wanted} holds no class folder")
  files = _Paths(root, tuple(paths))
  images = encoded(name, files, len(paths), channels=0, info=info)
  numbers = np.array(labels)
  return Split(images, numbers, numbers, len(classes))


def _classes(path):
  return sorted(p.name for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))


@dataclasses.dataclass(frozen=True, eq=False)
class _Paths:
  """The `files` of Encoded for image files; short strings, since a set may have a million."""

  root: Path
  names: tuple[str, ...]

  def __call__(self, index):
    paths = [self.root / self.names[i] for i in index]
    return [(str(path), path) for path in paths]
