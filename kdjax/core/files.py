"""Files that are replaced all at once or not at all, and JSON of trees with arrays in them."""

import contextlib
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from kdjax.types import ConfigError


def write_json(path: str | Path, value: Any) -> None:
  """Writes a tree of dicts, sequences, NumPy arrays and scalars as JSON, all at once or not at all.

  Raises:
    TypeError: a leaf is none of these.
  """
  text = json.dumps(plain(value), indent=2, allow_nan=False) + "\n"
  replace(Path(path), text.encode())


def read_json(path: str | Path) -> Any:
  """Reads the file of `write_json`; numbers that were not finite come back as None.

  Raises:
    ConfigError: the file cannot be read, or is not a JSON object.
    FileNotFoundError: there is no such file.
  """
  try:
    value = json.loads(Path(path).read_bytes())
  except FileNotFoundError:
    raise
  except OSError as error:
    raise ConfigError("file", str(path), f"cannot be read: {error.strerror}") from None
  except (ValueError, RecursionError):
    value = None
  if not isinstance(value, dict):
    raise ConfigError("file", str(path), "is damaged: no JSON object")
  return value


def plain(value: Any) -> Any:
  """The tree in JSON's own types: arrays become lists, and numbers that are not finite None."""
  if isinstance(value, dict):
    return {str(key): plain(item) for key, item in value.items()}
  if isinstance(value, list | tuple):
    return [plain(item) for item in value]
  if hasattr(value, "tolist"):  # a NumPy or JAX array or scalar
    return plain(np.asarray(value).tolist())
  return None if isinstance(value, float) and not math.isfinite(value) else value


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
  """Yields a temporary path to write to, which becomes `path` at the end unless an error is raised.

  A reader of `path` sees the old file or the new one, never a part; several processes may write at
  the same time.
  """
  part = path.with_name(f".{path.name}.{os.getpid()}.tmp")
  try:
    yield part
    with open(part, "rb+") as file:
      os.fsync(file.fileno())  # the bytes must be on disk before the name points to them
    part.replace(path)
  finally:
    part.unlink(missing_ok=True)


def replace(path: Path, data: bytes) -> None:
  """Replaces a file's content by `data`, as `whole` does."""
  with whole(path) as part:
    part.write_bytes(data)
