"""Sets of encoded images, decoded where they are read; their shape is looked up in the files."""

import collections
import dataclasses
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from rich import progress
from rich.console import Console

from kdjax.data.images import MODES, Damaged, check_decoder, decode, ends_whole, header, refuse
from kdjax.types import ConfigError

HEADERS, PROBES = 1024, 64  # images whose headers are read, and that are decoded, as a test
CHUNK = 64  # images that a thread looks at in turn
SHOWN = 5_000  # images from which on a bar is shown

# Indices -> [(what the image is called, a path or a binary stream)]; raises Damaged for a record
# that cannot be read.
Files = Callable[[Sequence[int] | np.ndarray], Sequence[tuple[str, Path | BinaryIO]]]


@dataclasses.dataclass(frozen=True, eq=False)
class Encoded:
  """N encoded images of one decoded shape; calling it decodes. It pickles, for worker processes."""

  name: str  # the source, as the config spells it
  files: Files  # indices -> [(what it is called, a path or a binary stream)]
  shape: tuple[int, int, int]  # (h, w, c) after decoding
  resize: bool  # to `shape`; otherwise every image must have it
  decoder: str  # one of DECODERS
  grey: bool  # whether colours may be dropped
  like: str  # an image of the usual size, by name

  def __call__(self, index: np.ndarray) -> np.ndarray:
    """Indices i64[n] -> u8[n, h, w, c]; raises Damaged for an image that has another shape."""
    out = np.empty((len(index), *self.shape), np.uint8)
    size = self.shape[:2] if self.resize else None
    for i, (what, file) in enumerate(self.files(index)):
      image = decode(self.name, what, file, self.shape[2], size, self.decoder)
      if image.shape != self.shape:
        raise self._differs(what, image.shape)
      out[i] = image
    return out

  def check(self, n: int) -> None:
    """Looks at n images, in parallel: at the headers and ends of all that are files of their own.

    A file that does not end as its format does is decoded, and so are some others. Of images inside
    other files 1,024 headers are read, evenly spread: a header alone is not to be had there.

    Raises:
      ConfigError: names the first that cannot be read, or have another shape, and says how many.
    """
    [first] = _items(self.files, [0])
    own_files = not isinstance(first, Damaged) and isinstance(first[1], Path)
    places = np.arange(n) if own_files else _spread(n, HEADERS)
    chunks = np.array_split(places, max(1, len(places) // CHUNK))
    with ThreadPoolExecutor() as pool:
      found = pool.map(self._look, chunks)
      errors = [error for some in _shown(found, self.name, len(places)) for error in some]
    refuse(errors or [e for i in _spread(n, PROBES) if (e := self._decoded(i))], n)

  def _look(self, places):
    """The Damaged of these images, from header and end."""
    items = zip(places, _items(self.files, places), strict=True)
    return [e for i, item in items if (e := self._one(i, item))]

  def _one(self, i, item):
    if isinstance(item, Damaged):
      return item
    what, file = item
    try:
      h, w, c = header(self.name, what, file)
      if not self.resize and (h, w) != self.shape[:2]:
        return self._differs(what, (h, w, c))
      if c > self.shape[2] and not self.grey:
        return Damaged("source", self.name, f"{what} has colours, others of the set have none")
      return None if not isinstance(file, Path) or ends_whole(file) else self._decoded(i)
    except Damaged as error:
      return error

  def _decoded(self, i):
    try:
      self(np.array([i]))
    except Damaged as error:
      return error
    return None

  def _differs(self, what, shape):
    return _differ(self.name, self.like, self.shape, what, shape)


def _shown(found, name, looked_at):
  """What `found` yields, with a bar on a terminal where there are many to look at."""
  console = Console(stderr=True)
  bar = progress.Progress(console=console, transient=True)
  if looked_at < SHOWN or not console.is_interactive:
    yield from found
    return
  with bar:
    task = bar.add_task(f"looking at {name}", total=looked_at // CHUNK)
    for one in found:
      bar.advance(task)
      yield one


def encoded(name: str, files: Files, n: int, *, channels: int, info: dict[str, Any]) -> Encoded:
  """Encoded images, of the shape that most have; `Encoded.check` looks for those that differ.

  The headers of 1,024 images, evenly spread (all where there are fewer), say the size, which is the
  set's shape unless `resize` is set. Colour is never lost unasked: files with colours
  are refused as grey images, unless `grey` is set; grey files may be read as colour ones.

  Args:
    name: the source.
    files: indices -> [(what it is called, a path or a binary stream)].
    n: images.
    channels: 1 (grey) or 3 (red, green, blue); 0: as `image` says or, without it, as the files are.
    info: what `check_info` returned; `resize` asks for images of `image`, `grey` makes grey images
      of coloured files, `decoder` is one of `DECODERS`.

  Raises:
    ConfigError: other channels, no readable image, or a decoder that is not there.
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
  size, like = _usual_size(headers)
  size = given[:2] if info["resize"] else size
  if not all(size):
    raise ConfigError("source_info.image", given, "the (height, width, channels) to resize to")
  how = dict(resize=bool(info["resize"]), decoder=info["decoder"], grey=bool(info["grey"]))
  return Encoded(name, files, (*size, channels), like=like, **how)


def _spread(n, most):
  """So many of n places at most, evenly spread, the first and the last among them."""
  return np.unique(np.linspace(0, n - 1, min(n, most)).astype(int))


def _items(files, places):
  """What `files` returns for some places, the Damaged itself for each that cannot be read."""
  try:
    return files(places)
  except Damaged as error:
    if len(places) == 1:
      return [error]
  return [item for place in places for item in _items(files, [place])]


def _headers(name, files, n):
  """[(what it is called, (h, w, c) as stored)] of some of the images, those that can be read."""
  found, error = [], None
  for item in _items(files, _spread(n, HEADERS)):
    try:
      if isinstance(item, Damaged):
        raise item
      what, file = item
      found.append((what, header(name, what, file)))
    except Damaged as damaged:
      error = error or damaged
  if not found and error:
    raise error
  return found


def _usual_size(headers):
  """(the (h, w) that most headers have, the first image that has it)."""
  size, _ = collections.Counter(shape[:2] for _, shape in headers).most_common(1)[0]
  return size, next(what for what, shape in headers if shape[:2] == size)


def _differ(name, first, shape, what, other):
  hint = f"{first} is {shape}, {what} is {other}; set source_info.image and source_info.resize=True"
  return Damaged("source", name, f"images differ in shape: {hint}, or store them alike")
