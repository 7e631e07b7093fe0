"""Encoded images that are decoded where they are read, and the folder source.

Two decoders, and the config says which, never what happens to be installed: `pillow`, and
`opencv` (`pip install 'kdjax[jpeg]'`), which takes complete 8-bit grey or colour JPEGs 2 to 3
times faster and leaves everything else to Pillow. Their pixels are alike until they resize: Pillow
averages over what a pixel covers; OpenCV interpolates between neighbours once the JPEG has been
decoded at 1/2, 1/4 or 1/8, where that still covers the target.
"""

import dataclasses
import functools
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
DECODERS = ("pillow", "opencv")


@dataclasses.dataclass(frozen=True, eq=False)
class Encoded:
  """N encoded images of one decoded shape; calling it decodes. It pickles, for worker processes."""

  name: str  # the source, as the config spells it
  files: Callable  # indices -> [(what it is called, a path or a binary stream)]
  shape: tuple[int, int, int]  # (h, w, c) after decoding
  resize: bool  # to `shape`; otherwise every image must have it
  decoder: str  # one of DECODERS

  def __call__(self, index):
    """Indices i64[n] -> u8[n, h, w, c]; raises ConfigError for an image that has another shape."""
    out = np.empty((len(index), *self.shape), np.uint8)
    size = self.shape[:2] if self.resize else None
    for i, (what, file) in enumerate(self.files(index)):
      image = decode(self.name, what, file, self.shape[2], size, self.decoder)
      if image.shape != self.shape:
        first = self.files([0])[0][0]
        hint = f"{first} is {self.shape}, {what} is {image.shape}; set source_info.resize=True"
        raise ConfigError(
          "source", self.name, f"images differ in shape: {hint} or store them alike"
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
    info: the config's source_info; its `resize` asks for images of `info['image']`, its
      `decoder` is one of `DECODERS`.

  Raises:
    ConfigError: other channels, an unreadable image, images that differ in shape, or a decoder
      that is not there.
  """
  if channels not in MODES:
    raise ConfigError("source_info.image", tuple(info["image"]), "the last number must be 1 or 3")
  resize, decoder = bool(info.get("resize", False)), info.get("decoder", "pillow")
  check_decoder(decoder)
  if resize:
    shape = (*info["image"][:2], channels)
  else:
    what, file = files([0])[0]
    shape = decode(name, what, file, channels, None, decoder).shape
  images = Encoded(name, files, tuple(shape), resize, decoder)
  images(np.unique(np.linspace(0, n - 1, min(n, PROBES)).astype(int)))
  return images


def check_decoder(decoder):
  """Raises ConfigError for a decoder that is unknown or not installed."""
  if decoder not in DECODERS:
    raise ConfigError("source_info.decoder", decoder, f"one of {', '.join(DECODERS)}")
  if decoder == "opencv" and _cv2() is None:
    hint = "pip install 'kdjax[jpeg]', or use decoder='pillow'"
    raise ConfigError("source_info.decoder", decoder, hint)


def decode(name, what, file, channels, size, decoder):
  """One image as u8[h, w, c].

  Args:
    name: str, the source; `what`, the image's name; both for the error.
    what: see there.
    file: a path or a binary stream.
    channels: 1 or 3.
    size: (h, w) to which the image is scaled until it covers it, and centre-cropped; or None.
    decoder: one of `DECODERS`.
  """
  if decoder == "opencv":
    try:
      data = file.read_bytes() if isinstance(file, Path) else file.read()
    except OSError as error:
      raise ConfigError("source", name, f"{what} cannot be read: {error}") from None
    pixels = _opencv(data, channels, size)
    if pixels is not None:
      return pixels.reshape(*pixels.shape[:2], channels)
    file = io.BytesIO(data)
  try:
    with Image.open(file) as image:
      if image.mode in DEEP:
        raise ConfigError("source", name, f"{what} has more than 8 bits a channel; store 8")
      if size:
        image.draft(None, size[::-1])  # a JPEG may be decoded at 1/2, 1/4, 1/8: much faster
      if "transparency" in image.info:
        image = image.convert("RGBA")
      image = image.convert(MODES[channels])
      pixels = np.asarray(_cover(image, size) if size else image)
  except (UnidentifiedImageError, OSError, SyntaxError) as error:
    hint = f"{what} is no image that Pillow can read: {error}"
    raise ConfigError("source", name, hint) from None
  return pixels.reshape(*pixels.shape[:2], channels)


def _cover(image, size):
  """A Pillow image scaled until it covers (h, w), and centre-cropped."""
  return ImageOps.fit(image, size[::-1], Image.Resampling.BILINEAR)


def resized(pixels, size):
  """Images u8[N, h, w, c] at another (h, w), as the decoder `pillow` resizes."""
  if pixels.shape[1:3] == tuple(size):
    return pixels
  grey = pixels.shape[3] == 1
  out = [_cover(Image.fromarray(x[..., 0] if grey else x), size) for x in pixels]
  return np.stack([np.asarray(x) for x in out]).reshape(len(pixels), *size, pixels.shape[3])


@functools.cache
def _cv2():
  """The module, or None; one thread an image: images are what runs side by side."""
  try:
    import cv2
  except ImportError:
    return None
  cv2.setNumThreads(1)
  return cv2


def _opencv(data, channels, size):
  """u8[h, w] or u8[h, w, 3] of a JPEG's bytes; None for what is left to Pillow."""
  whole = _jpeg_size(data)
  if whole is None:
    return None
  cv2, (h, w) = _cv2(), whole
  colour = "COLOR" if channels == 3 else "GRAYSCALE"
  fits = lambda n: size and -(-h // n) >= size[0] and -(-w // n) >= size[1]
  scale = next((n for n in (8, 4, 2) if fits(n)), 1)
  flags = getattr(cv2, f"IMREAD_{colour}" if scale == 1 else f"IMREAD_REDUCED_{colour}_{scale}")
  flags |= cv2.IMREAD_IGNORE_ORIENTATION  # Pillow does not turn images either
  try:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
  except cv2.error:
    return None
  if image is None:
    return None
  if size:
    (h, w), (height, width) = image.shape[:2], size
    factor = min(h / height, w / width)
    rows, columns = min(h, round(factor * height)), min(w, round(factor * width))
    top, left = (h - rows) // 2, (w - columns) // 2
    image = image[top : top + rows, left : left + columns]
    image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
  return cv2.cvtColor(image, cv2.COLOR_BGR2RGB) if channels == 3 else image


def _jpeg_size(data):
  """(h, w) of a complete grey or three-channel JPEG of 8 bits and bearable size, otherwise None."""
  if data[:2] != b"\xff\xd8" or data[-2:] != b"\xff\xd9":
    return None
  at = 2
  while at + 10 <= len(data) and data[at] == 0xFF:
    marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
    if marker in (0xC0, 0xC1, 0xC2):  # the header of a Huffman-coded image
      h, w = (int.from_bytes(data[i : i + 2], "big") for i in (at + 5, at + 7))
      usual = data[at + 4] == 8 and data[at + 9] in (1, 3)
      return (h, w) if usual and 0 < h * w <= Image.MAX_IMAGE_PIXELS else None
    at += 2 + length
  return None


@dataclasses.dataclass(frozen=True, eq=False)
class _Paths:
  """The `files` of Encoded for image files; short strings, since a set may have a million."""

  root: Path
  names: tuple[str, ...]

  def __call__(self, index):
    paths = [self.root / self.names[i] for i in index]
    return [(str(path), path) for path in paths]


@dataclasses.dataclass(frozen=True, eq=False)
class Records:
  """The `files` of Encoded for a random-access source of {key: bytes, ...}."""

  source: object  # its `__getitems__` would start a thread a shard in every call
  key: str

  def __call__(self, index):
    """Indices -> [(name, binary stream)], one read after another."""
    return [(f"example {i}", io.BytesIO(self.source[int(i)][self.key])) for i in index]


def folder(name, split, info):
  """`DIR/train/CLASS/*` and `DIR/test/CLASS/*`; classes are numbered by their sorted names."""
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
  images = encoded(name, files, len(paths), channels=info["image"][2], info=info)
  labels = np.array(labels)
  return Split(images, labels, labels, len(classes))


def _classes(path):
  return sorted(p.name for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))
