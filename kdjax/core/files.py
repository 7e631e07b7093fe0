"""Files that are whole: replaced all at once or not at all; JSON of trees with arrays in them."""

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np


def write_json(path: str | Path, value: Any) -> None:
  """Writes a tree of dicts, sequences, NumPy arrays and scalars as JSON, all at once or not at all.

  Raises:
    TypeError: a leaf is none of these.
  """
  text = json.dumps(plain(value), indent=2, allow_nan=False) + "\n"
  replace(Path(path), text.encode())


def read_json(path: str | Path) -> Any:
  """What `write_json` wrote; what was not finite comes back as None."""
  return json.loads(Path(path).read_bytes())


def plain(value: Any) -> Any:
  """The same tree in JSON's own types: arrays become lists, numbers that are not finite None."""
  if isinstance(value, dict):
    return {str(key): plain(item) for key, item in value.items()}
  if isinstance(value, list | tuple):
    return [plain(item) for item in value]
  if hasattr(value, "tolist"):  # a NumPy or JAX array or scalar
    return plain(np.asarray(value).tolist())
  return None if isinstance(value, float) and not math.isfinite(value) else value


def replace(path: Path, data: bytes) -> None:
  """Puts `data` in place of a file; whoever reads sees the old file or the new one, never half."""
  part = path.with_name(path.name + ".tmp")
  with open(part, "wb") as file:
    file.write(data)
    file.flush()
    os.fsync(file.fileno())  # the name must not become the new file's before its bytes are on disk
  part.replace(path)
