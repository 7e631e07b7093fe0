"""Messages of peers: a header of known length in JSON, then raw little-endian numbers.

A receiver knows what a message must be before it looks: its size, its shapes, whose it is. Nothing
in one is code, and whatever is wrong with it is a `Refused` with a reason. Senders are not
authenticated: what is checked is that a message can be used, not that it is true.
"""

import hashlib
import json
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

VERSION = 1
HEADER = 2048  # bytes, padded with spaces and closed by a newline
DTYPES = {"float32": "<f4", "float64": "<f8", "int32": "<i4"}
FAR = 1e-4  # how far probabilities may be from their sum, 1: more than float32 rounds

Arrays = dict[str, np.ndarray]
Shapes = dict[str, tuple[tuple[int, ...], str]]  # {array: (shape, dtype)}


class Refused(ValueError):
  """A message that is not taken; its argument is the reason, one word."""


class Kind(NamedTuple):
  """One kind of message."""

  name: str
  shapes: Callable[[int], Shapes]  # of a sender's message
  check: Callable[[Arrays], str] = lambda arrays: ""  # what is wrong with finite values, or ''


class Envelope(NamedTuple):
  """What a message must say of itself."""

  kind: str
  sender: int
  round: int
  experiment: str  # the hash of config and split: whoever shares it runs the same experiment
  shapes: Shapes

  @property
  def nbytes(self) -> int:
    """The size of the message."""
    return HEADER + sum(_size(*spec) for spec in self.shapes.values())

  def header(self) -> dict[str, Any]:
    """The header, without the digest."""
    arrays = [[name, list(shape), dtype] for name, (shape, dtype) in self.shapes.items()]
    return {
      "version": VERSION,
      "kind": self.kind,
      "sender": self.sender,
      "round": self.round,
      "experiment": self.experiment,
      "arrays": arrays,
    }


def encode(envelope: Envelope, arrays: Arrays) -> bytes:
  """The bytes of a message.

  Raises:
    ValueError: for arrays that are not what the envelope says, or a header that is too long.
  """
  given = {name: (x.shape, str(x.dtype)) for name, x in arrays.items()}
  if given != envelope.shapes:
    raise ValueError(f"{envelope.kind}: {given} in place of {envelope.shapes}")
  payload = b"".join(
    np.ascontiguousarray(arrays[name], DTYPES[dtype]).tobytes()
    for name, (_, dtype) in envelope.shapes.items()
  )
  header = envelope.header()
  text = json.dumps(header | {"digest": digest(header, payload)}).encode()
  if len(text) >= HEADER:
    raise ValueError(f"a header of {len(text)} bytes: there is room for {HEADER - 1}")
  return text.ljust(HEADER - 1) + b"\n" + payload


def decode(data: bytes, envelope: Envelope, check: Callable[[Arrays], str]) -> Arrays:
  """The arrays of a message that says what it must, and is as it says.

  Args:
    data: bytes.
    envelope: what it must say.
    check: of its kind.

  Raises:
    Refused: otherwise, with the reason.
  """
  if len(data) != envelope.nbytes:
    raise Refused("size")
  header, payload = envelope.header(), data[HEADER:]
  found = _header(data[:HEADER])
  for key, value in header.items():
    if found.pop(key, None) != _canonical(value):
      raise Refused(key)
  if found != {"digest": _canonical(digest(header, payload))}:
    raise Refused("digest")
  arrays = _arrays(payload, envelope.shapes)
  wrong = faulty(arrays, check)
  if wrong:
    raise Refused(wrong)
  return arrays


def faulty(arrays: Arrays, check: Callable[[Arrays], str]) -> str:
  """What is wrong with a message's values, or ''; `check` is of its kind."""
  return check(arrays) if all(np.isfinite(x).all() for x in arrays.values()) else "finite"


def digest(header: dict[str, Any], payload: bytes) -> str:
  """SHA-256 of a message, less the digest itself."""
  return hashlib.sha256(_canonical(header).encode() + payload).hexdigest()


def probabilities(p: np.ndarray) -> str:
  """What is wrong with class probabilities f[..., C], or ''."""
  if (p < 0).any():
    return "negative"
  return "sum" if _above_one(p) or (p.sum(-1, dtype=np.float64) < 1 - FAR).any() else ""


def largest(p: np.ndarray, index: np.ndarray, classes: int) -> str:
  """What is wrong with the k largest class probabilities f[..., k], i32[..., k], or ''."""
  if (p < 0).any():
    return "negative"
  if _above_one(p):
    return "sum"
  if (index < 0).any() or (index >= classes).any():
    return "index"
  ordered = np.sort(index, -1)
  return "index" if (ordered[..., 1:] == ordered[..., :-1]).any() else ""


def _above_one(p):
  """Whether any of them, or their sum, is; each first: the sum of finite numbers may not be."""
  return (p > 1 + FAR).any() or (p.sum(-1, dtype=np.float64) > 1 + FAR).any()


def _size(shape, dtype):
  return math.prod(shape) * np.dtype(DTYPES[dtype]).itemsize


def _header(block):
  """The header as {key: canonical text}; a bomb of brackets or digits is no header."""
  try:
    found = json.loads(block.decode(), object_pairs_hook=_once, parse_constant=_no_number)
    if isinstance(found, dict):
      return {key: _canonical(value) for key, value in found.items()}
  except (ValueError, RecursionError):
    pass
  raise Refused("header")


def _once(pairs):
  """A dict of pairs none of which repeats another's key."""
  found = dict(pairs)
  if len(found) < len(pairs):
    raise ValueError("a key twice")
  return found


def _no_number(name):
  raise ValueError(name)  # NaN, Infinity


def _canonical(value):
  """Text that tells true from 1 and 1 from 1.0, as equality does not."""
  return json.dumps(value, sort_keys=True)


def _arrays(payload, shapes):
  arrays, at = {}, 0
  for name, (shape, dtype) in shapes.items():
    size = _size(shape, dtype)
    flat = np.frombuffer(payload, DTYPES[dtype], offset=at, count=math.prod(shape))
    arrays[name], at = flat.reshape(shape).astype(dtype), at + size
  return arrays
