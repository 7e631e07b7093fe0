"""The folder source: a folder of image files for every class."""

import dataclasses
import functools
import os
from pathlib import Path
from typing import Any

import numpy as np

from kdjax.core import agreement
from kdjax.data.encoded import encoded
from kdjax.data.readers import Split, directory
from kdjax.types import ConfigError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".pgm", ".ppm", ".tif", ".tiff", ".webp")


def folder(name: str, split: str, info: dict[str, Any]) -> Split:
  """`DIR/train/CLASS/*` and `DIR/test/CLASS/*`; classes are numbered by their sorted names.

  Without a shape in `source_info`, that of the files, which must then be one; see `encoded`. Files
  of other endings are left out, and counted on standard error; hidden ones are not looked at.
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
  paths, labels, others = [], [], 0
  for label, folder_name in enumerate(classes):
    names = _files(name, wanted / folder_name)
    found = sorted(wanted / folder_name / n for n in names if n.lower().endswith(SUFFIXES))
    others += len(names) - len(found)
    if not found:
      hint = f"{wanted / folder_name} holds no image; files must end in {', '.join(SUFFIXES)}"
      raise ConfigError("source", name, hint)
    paths += [str(p.relative_to(root)) for p in found]
    labels += [label] * len(found)
  if not paths:
    raise ConfigError("source", name, f"{wanted} holds no class folder")
  if others:
    _say_once(f"{wanted}: {others:,} files that do not end in {', '.join(SUFFIXES)} are left out")
  files = _Paths(root, tuple(paths))
  images = encoded(name, files, len(paths), channels=0, info=info)
  numbers = np.array(labels)
  return Split(images, numbers, numbers, len(classes))


def _files(name, path):
  """The names of a class's files, but hidden ones."""
  with os.scandir(path) as entries:
    visible = [entry for entry in entries if not entry.name.startswith(".")]
  inside = [entry.name for entry in visible if entry.is_dir()]
  if inside:
    hint = f"{path} holds the folder {min(inside)!r}: a class is a folder of files, without others"
    raise ConfigError("source", name, hint)
  return [entry.name for entry in visible]


@functools.cache  # a source is opened for every experiment
def _say_once(line):
  agreement.say(line)


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
