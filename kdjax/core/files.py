"""Files that are whole: replaced all at once or not at all; JSON of trees with arrays in them."""

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
  """What `write_json` wrote; what was not finite comes back as None.

  Raises:
    ConfigError: where a file is there that is no JSON object.
  """
  try:
    found = json.loads(Path(path).read_bytes())
  except FileNotFoundError:
    raise
  except OSError as error:
    raise ConfigError("file", str(path), f"cannot be read: {error.strerror}") from None
  except (ValueError, RecursionError):
    found = None
  if not isinstance(found, dict):
    raise ConfigError("file", str(path), "is damaged: no JSON object")
  return found


def plain(value: Any) -> Any:
  """The same tree in JSON's own types: arrays become lists, numbers that are not finite None."""
  if isinstance(value, dict):
    return {str(key): plain(item) for key, item in value.items()}
  if isinstance(value, list | tuple):
    return [plain(item) for item in value]
  if hasattr(value, "tolist"):  # a NumPy or JAX array or scalar
    return plain(np.asarray(value).tolist())
  return None if isinstance(value, float) and not math.isfinite(value) else value


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
  """The place to write a new file to; it becomes `path` at the end, if all went well.

  Whoever reads `path` sees the old file or the new one, never half; several may write at once.
  """
  part = path.with_name(f".{path.name}.{os.getpid()}.tmp")
  try:
    yield part
    with open(part, "rb+") as file:
      os.fsync(file.fileno())  # its bytes are on disk before the name is the new file's
    part.replace(path)
  finally:
    part.unlink(missing_ok=True)


def replace(path: Path, data: bytes) -> None:
  """Puts `data` in place of a file, `whole`."""
  with whole(path) as part:
    part.write_bytes(data)
