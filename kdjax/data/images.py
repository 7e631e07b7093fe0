"""Encoded images that are decoded where they are read, and the folder source."""

import dataclasses
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from kdjax.data.readers import Split, directory
from kdjax.types import ConfigError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".pgm", ".ppm", ".tif", ".tiff", ".webp")
MODES = {1: "L", 3: "RGB"}  # Pillow's name of c channels of 8 bits
DEEP = ("I", "F", "I;16", "I;16B", "I;16L")  # more than 8 bits: a conversion would clip silently
PROBES = 64  # images that are looked at before a run starts


@dataclasses.dataclass(frozen=True, eq=False)
class Encoded:
  """N encoded images of one decoded shape; calling it decodes. It pickles, for worker processes."""

  name: str  # the source, as the config spells it
  files: Callable  # indices -> [(what it is called, a path or a binary stream)]
  shape: tuple[int, int, int]  # (h, w, c) after decoding
  resize: bool  # to `shape`; otherwise every image must have it

  def __call__(self, index):
    """Indices i64[n] -> u8[n, h, w, c]; raises ConfigError for an image that has another shape."""
    out = np.empty((len(index), *self.shape), np.uint8)
    for i, (what, file) in enumerate(self.files(index)):
      image = decode(self.name, what, file, self.shape[2], self.shape[:2] if self.resize else None)
      if image.shape != self.shape:
        first = self.files([0])[0][0]
        right = f"{first} is {self.shape}, {what} is {image.shape}; set source_info.resize=True"
        raise ConfigError(
          "source", self.name, f"images differ in shape: {right} or store them alike"
        )
      out[i] = image
    return out


def encoded(name, files, n, *, channels, info):
  """Encoded images, a few of them decoded as a test.

  Args:
    name: str, the source.
    files: indices -> [(what it is called, a path or a binary stream)].
    n: images.
    channels: 1 (grey) or 3 (red, green, blue).
    info: the config's source_info; its `resize` asks for images of `info['image']`.

  Raises:
    ConfigError: other channels, an unreadable image, or images that differ in shape.
  """
  if channels not in MODES:
    raise ConfigError("source_info.image", tuple(info["image"]), "the last number must be 1 or 3")
  resize = bool(info.get("resize", False))
  if resize:
    shape = (*info["image"][:2], channels)
  else:
    what, file = files([0])[0]
    shape = decode(name, what, file, channels, None).shape
  images = Encoded(name, files, tuple(shape), resize)
  images(np.unique(np.linspace(0, n - 1, min(n, PROBES)).astype(int)))
  return images


def decode(name, what, file, channels, size):
  """One image as u8[h, w, c].

  Args:
    name: str, the source; `what`, the image's name; both for the error.
    what: see there.
    file: a path or a binary stream.
    channels: 1 or 3.
    size: (h, w) to which the image is scaled until it covers it, and centre-cropped; or None.
  """
  try:
    with Image.open(file) as image:
      if image.mode in DEEP:
        raise ConfigError("source", name, f"{what} has more than 8 bits a channel; store 8")
      if size:
        image.draft(None, size[::-1])  # a JPEG may be decoded at 1/2, 1/4, 1/8: much faster
      if "transparency" in image.info:
        image = image.convert("RGBA")
      image = image.convert(MODES[channels])
      if size:
        image = ImageOps.fit(image, size[::-1], Image.Resampling.BILINEAR)
      pixels = np.asarray(image)
  except (UnidentifiedImageError, OSError, SyntaxError) as error:
    right = f"{what} is no image that Pillow can read: {error}"
    raise ConfigError("source", name, right) from None
  return pixels.reshape(*pixels.shape[:2], channels)


@dataclasses.dataclass(frozen=True, eq=False)
class _Paths:
  """The `files` of Encoded for image files."""

  paths: tuple[Path, ...]

  def __call__(self, index):
    return [(str(self.paths[i]), self.paths[i]) for i in index]


@dataclasses.dataclass(frozen=True, eq=False)
class Records:
  """The `files` of Encoded for a random-access source of {key: bytes, ...}."""

  source: object  # has `__getitems__`
  key: str

  def __call__(self, index):
    """Indices -> [(name, binary stream)], read at once."""
    records = self.source.__getitems__([int(i) for i in index])
    return [(f"example {i}", io.BytesIO(r[self.key])) for i, r in zip(index, records, strict=True)]


def folder(name, split, info):
  """`DIR/train/CLASS/*` and `DIR/test/CLASS/*`; classes are numbered by their sorted names."""
  root = directory(name, name.partition(":")[2])
  wanted = root / split
  if not wanted.is_dir():
    right = f"needs the folders {root}/train/CLASS and, unless holdout > 0, {root}/test/CLASS"
    raise ConfigError("source", name, f"{right}; {wanted} is not there")
  classes = _classes(root / "train")
  if _classes(wanted) != classes:
    odd = sorted(set(_classes(wanted)) ^ set(classes))
    raise ConfigError("source", name, f"train and test must hold the same classes; {odd} are not")
  paths, labels = [], []
  for label, folder_name in enumerate(classes):
    found = sorted(p for p in (wanted / folder_name).iterdir() if p.suffix.lower() in SUFFIXES)
    if not found:
      right = f"{wanted / folder_name} holds no image; files must end in {', '.join(SUFFIXES)}"
      raise ConfigError("source", name, right)
    paths += found
    labels += [label] * len(found)
  if not paths:
    raise ConfigError("source", name, f"{wanted} holds no class folder")
  images = encoded(name, _Paths(tuple(paths)), len(paths), channels=info["image"][2], info=info)
  labels = np.array(labels)
  return Split(images, labels, labels, len(classes))


def _classes(path):
  return sorted(p.name for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))
