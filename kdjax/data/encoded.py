"""Sets of encoded images, decoded where they are read; their shape is looked up in the files."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from kdjax.data.images import MODES, check_decoder, decode, header
from kdjax.types import ConfigError

HEADERS, PROBES = 1024, 64  # images whose headers are read, and that are decoded, as a test

# Indices -> [(what the image is called, a path or a binary stream)].
Files = Callable[[Sequence[int] | np.ndarray], Sequence[tuple[str, Path | BinaryIO]]]


@dataclasses.dataclass(frozen=True, eq=False)
class Encoded:
  """N encoded images of one decoded shape; calling it decodes. It pickles, for worker processes."""

  name: str  # the source, as the config spells it
  files: Files  # indices -> [(what it is called, a path or a binary stream)]
  shape: tuple[int, int, int]  # (h, w, c) after decoding
  resize: bool  # to `shape`; otherwise every image must have it
  decoder: str  # one of DECODERS

  def __call__(self, index: np.ndarray) -> np.ndarray:
    """Indices i64[n] -> u8[n, h, w, c]; raises ConfigError for an image that has another shape."""
    out = np.empty((len(index), *self.shape), np.uint8)
    size = self.shape[:2] if self.resize else None
    for i, (what, file) in enumerate(self.files(index)):
      image = decode(self.name, what, file, self.shape[2], size, self.decoder)
      if image.shape != self.shape:
        raise _differ(self.name, self.files([0])[0][0], self.shape, what, image.shape)
      out[i] = image
    return out


def encoded(name: str, files: Files, n: int, *, channels: int, info: dict[str, Any]) -> Encoded:
  """Encoded images; before a run starts, some of them are looked at.

  The headers of 1,024 images, evenly spread (all where there are fewer), must agree on a size,
  which is the set's shape unless `resize` is set. Colour is never lost unasked: files with colours
  are refused as grey images, unless `grey` is set; grey files may be read as colour ones.

  Args:
    name: the source.
    files: indices -> [(what it is called, a path or a binary stream)].
    n: images.
    channels: 1 (grey) or 3 (red, green, blue); 0: as `image` says or, without it, as the files are.
    info: what `check_info` returned; `resize` asks for images of `image`, `grey` makes grey images
      of coloured files, `decoder` is one of `DECODERS`.

  Raises:
    ConfigError: other channels, an unreadable image, images that differ in shape, or a decoder
      that is not there.
  """
  check_decoder(info["decoder"])
  given, headers = info["image"], _headers(name, files, n)
  channels = channels or given[-1] or max(c for _, (*_, c) in headers)
  if len(given) != 3 or channels not in MODES:
    raise ConfigError("source_info.image", given, "the last number must be 1 or 3")
  colour = next((what for what, (*_, c) in headers if c > channels), None)
  if colour and not info["grey"]:
    hint = f"{colour} has colours: three channels, or source_info.grey=True to drop them"
    raise ConfigError("source_info.image", given, hint)
  size = given[:2] if info["resize"] else _one_size(name, headers)
  if not all(size):
    raise ConfigError("source_info.image", given, "the (height, width, channels) to resize to")
  images = Encoded(name, files, (*size, channels), bool(info["resize"]), info["decoder"])
  images(_spread(n, PROBES))
  return images


def _spread(n, most):
  """So many of n places at most, evenly spread, the first and the last among them."""
  return np.unique(np.linspace(0, n - 1, min(n, most)).astype(int))


def _headers(name, files, n):
  """[(what it is called, (h, w, c) as stored)] of some of the images."""
  return [(what, header(name, what, file)) for what, file in files(_spread(n, HEADERS))]


def _one_size(name, headers):
  """The (h, w) that all headers have."""
  first, shape = headers[0]
  for what, other in headers:
    if other[:2] != shape[:2]:
      raise _differ(name, first, shape, what, other)
  return shape[:2]


def _differ(name, first, shape, what, other):
  hint = f"{first} is {shape}, {what} is {other}; set source_info.image and source_info.resize=True"
  return ConfigError("source", name, f"images differ in shape: {hint}, or store them alike")
