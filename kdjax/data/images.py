"""Decodes and resizes images.

Two decoders, and the config says which, never what happens to be installed: `pillow`, and
`opencv` (`pip install 'kdjax[jpeg]'`), which takes complete 8-bit grey or colour JPEGs 2 to 3
times faster and leaves everything else to Pillow. Their pixels are alike until they resize: Pillow
averages over what a pixel covers; OpenCV interpolates between neighbours once the JPEG has been
decoded at 1/2, 1/4 or 1/8, where that still covers the target.
"""

import contextlib
import functools
import io
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps

from kdjax.types import ConfigError

MODES = {1: "L", 3: "RGB"}  # Pillow's name of c channels of 8 bits
DEEP = ("I", "F", "I;16", "I;16B", "I;16L")  # more than 8 bits: a conversion would clip silently
DECODERS = ("pillow", "opencv")
ENDS = {  # {first: last bytes}
  b"\xff\xd8": b"\xff\xd9",
  b"\x89PNG": b"IEND\xaeB`\x82",
  b"GIF8": b";",
}


NAMED = 3  # damaged images that are named


class Damaged(ConfigError):
  """An image that cannot be read, or is not as the others of its set."""


@contextlib.contextmanager
def one_record(name: str, what: str) -> Iterator[None]:
  """Makes a Damaged of whatever the reader of a file of records raises for one of them."""
  try:
    yield
  except Exception as error:  # its errors have no common class, such as RuntimeError
    reason = str(error) or type(error).__name__
    raise Damaged("source", name, f"{what} cannot be read: {reason}") from None


def refuse(errors: list[Damaged], n: int) -> None:
  """Raises a ConfigError that names the first of some damaged images, and says how many of n."""
  if errors:
    said = "; ".join(error.hint for error in errors[:NAMED])
    more = f"; {len(errors):,} of {n:,} images are so" if len(errors) > 1 else ""
    raise ConfigError(errors[0].key, errors[0].value, said + more)


def check_decoder(decoder: str) -> None:
  """Raises ConfigError for a decoder that is unknown or not installed."""
  if decoder not in DECODERS:
    raise ConfigError("source_info.decoder", decoder, f"one of {', '.join(DECODERS)}")
  if decoder == "opencv" and _cv2() is None:
    hint = "pip install 'kdjax[jpeg]', or use decoder='pillow'"
    raise ConfigError("source_info.decoder", decoder, hint)


def decode(
  name: str,
  what: str,
  file: Path | BinaryIO,
  channels: int,
  size: tuple[int, int] | None,
  decoder: str,
) -> np.ndarray:
  """One image as u8[h, w, c].

  Args:
    name: the source; `what`, the image's name; both for the error.
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
      raise Damaged("source", name, f"{what} cannot be read: {error}") from None
    pixels = _opencv(data, channels, size)
    if pixels is not None:
      return pixels.reshape(*pixels.shape[:2], channels)
    file = io.BytesIO(data)
  try:
    with Image.open(file) as opened:
      _check_depth(name, what, opened)
      if size:
        opened.draft(None, size[::-1])  # a JPEG may be decoded at 1/2, 1/4, 1/8: much faster
      image = opened.convert("RGBA") if "transparency" in opened.info else opened
      image = image.convert(MODES[channels])
      pixels = np.asarray(_cover(image, size) if size else image)
  except Damaged:
    raise
  except Exception as error:  # what Pillow's plugins raise for hostile bytes has no common class
    raise _unreadable(name, what, error) from None
  return pixels.reshape(*pixels.shape[:2], channels)


def header(name: str, what: str, file: Path | BinaryIO) -> tuple[int, int, int]:
  """(h, w, c) of an image as it is stored, without decoding it; c is 1 where all of it is grey.

  Raises:
    ConfigError: for what is no image.
  """
  try:
    with Image.open(file) as image:
      _check_depth(name, what, image)
      return (*image.size[::-1], _channels(image))
  except Damaged:
    raise
  except Exception as error:  # as in `decode`
    raise _unreadable(name, what, error) from None


def ends_whole(file: Path | BinaryIO) -> bool:
  """Whether a file's last bytes are those with which its format ends; only a few formats say."""
  with open(file, "rb") if isinstance(file, Path) else contextlib.nullcontext(file) as opened:
    opened.seek(0)
    first = opened.read(4)
    opened.seek(0, io.SEEK_END)
    opened.seek(max(0, opened.tell() - 8))
    last = opened.read(8)
    opened.seek(0)
  return any(first.startswith(a) and last.endswith(b) for a, b in ENDS.items())


def _check_depth(name, what, image):
  if image.mode in DEEP:
    raise Damaged("source", name, f"{what} has more than 8 bits a channel; store 8")


def _channels(image):
  if image.mode == "P":  # grey where every colour of its palette is
    colours = np.reshape(image.convert("P").getpalette("RGB"), (-1, 3))
    return 3 if (colours != colours[:, :1]).any() else 1
  return 1 if image.mode in ("1", "L", "LA", "La", *DEEP) else 3


def _unreadable(name, what, error):
  if isinstance(error, Image.DecompressionBombError):
    most = 2 * (Image.MAX_IMAGE_PIXELS or 0)
    return Damaged("source", name, f"{what} has more than {most:,} pixels: store it smaller")
  return Damaged("source", name, f"{what} is no image that Pillow can read: {error}")


def _cover(image, size):
  """A Pillow image scaled until it covers (h, w), and centre-cropped."""
  return ImageOps.fit(image, size[::-1], Image.Resampling.BILINEAR)


def resized(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
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
