"""The log of a run: metrics.jsonl and TensorBoard events."""

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from kdjax.core import agreement
from kdjax.core.files import plain, replace
from kdjax.training.events import Events
from kdjax.training.tail import Tail
from kdjax.types import ConfigError

METRICS = "metrics.jsonl"


class Writer:
  """Appends to WORKDIR/metrics.jsonl and to TensorBoard events under WORKDIR/tensorboard.

  With several processes only the first one makes a `Writer`.
  """

  def __init__(
    self, workdir: str | Path, *, resume_step: int | None, known: dict[str, int] | None = None
  ) -> None:
    """Opens the log; on resume, cuts off the lines written after the restored step.

    Args:
      workdir: the run's folder; made if it is missing.
      resume_step: training batches at the restored step; lines with a greater `step` and an
        incomplete last line are cut off. None: nothing was restored, and the file starts empty.
      known: what `written` returned when that step was saved; None: not known.

    Raises:
      ConfigError: if lines up to the restored step are damaged or missing.
    """
    folder = Path(workdir)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / METRICS
    if path.exists() and not path.is_file():
      raise ConfigError("file", str(path), "is not a file")
    first = 0 if resume_step is None else resume_step + 1  # the first step to write again
    lines = [] if resume_step is None else _mended(path, resume_step, known)
    if path.exists():
      replace(path, b"".join(lines))
    self._tail = Tail(path)
    self._written = {"lines": len(lines), "crc": zlib.crc32(b"".join(lines))}
    self._events = Events(folder / "tensorboard", purge_step=first)

  def write(self, step: int, phase: str, numbers: dict[str, Any]) -> None:
    """Appends one line and flushes it.

    Args:
      step: training batches so far.
      phase: the phase's name, or 'eval'.
      numbers: {key: a number or a 0-d array}; values that are not finite are written as null, since
        JSON has no form for them, and are left out of TensorBoard.
    """
    numbers = {key: plain(np.asarray(value).item()) for key, value in numbers.items()}
    line = dict(step=int(step), phase=phase, **numbers)
    data = json.dumps(line, allow_nan=False).encode() + b"\n"
    self._written["lines"] += 1
    self._written["crc"] = zlib.crc32(data, self._written["crc"])
    self._tail.add(data)
    known = {f"{phase}/{key}": value for key, value in numbers.items() if value is not None}
    self._events.write(known, int(step))

  def written(self) -> dict[str, int]:
    """The number of lines so far and their CRC-32, earlier stretches included."""
    return dict(self._written)

  def close(self) -> None:
    """Writes the lines that are still held."""
    self._tail.add(b"")

  def __enter__(self):
    return self

  def __exit__(self, *exception):
    self.close()


def read_metrics(workdir: str | Path) -> list[dict[str, Any]]:
  """The complete lines of WORKDIR/metrics.jsonl as dicts, null as None.

  Raises:
    ConfigError: for a damaged line.
  """
  path = Path(workdir) / METRICS
  return [_parsed(path, n, line) for n, line in enumerate(_lines(path), 1)] if path.exists() else []


class Silent:
  """A `Writer` or `Progress` that does nothing, for all processes but the first."""

  def __init__(self, *arguments: Any, **keywords: Any) -> None:
    """Accepts the arguments of either."""

  def write(self, step: int, phase: str, numbers: dict[str, Any]) -> None:
    """Does nothing."""

  def written(self) -> dict[str, int]:
    """Returns {}: nothing was written."""
    return {}

  def update(self, step: int, **numbers: Any) -> None:
    """Does nothing."""

  def __enter__(self):
    return self

  def __exit__(self, *exception):
    pass


def _lines(path):
  """The complete lines of a file, each with its end; a killed process may leave half a line."""
  try:
    lines = path.read_bytes().split(b"\n")
  except OSError as error:
    raise ConfigError("workdir", str(path), f"cannot be read: {error.strerror}") from None
  return [line + b"\n" for line in lines[:-1]]


def _content(data):
  """The content of a line as a dict; None if it is damaged."""
  try:
    content = json.loads(data)
    return content if isinstance(content["step"], int) else None
  except (ValueError, KeyError, TypeError, RecursionError):
    return None


def _parsed(path, number, line):
  """The content of a line as a dict; raises ConfigError if it is damaged."""
  content = _content(line)
  if content is not None:
    return content
  raise ConfigError("workdir", str(path), f"line {number} is damaged. {_MEND}")


def _mended(path, last, known):
  """The lines with `step <= last`, byte by byte, without the empty or doubled lines of a crash."""
  if not path.exists():
    if known and known["lines"]:
      agreement.say(f"{path} is gone: it begins again after step {last}")
    return []
  lines = _lines(path)
  kept = []
  seen = set()
  removed = 0
  torn = path.read_bytes()[sum(map(len, lines)) :]  # a killed process's last bytes
  if "phase" in (_content(torn) or ()):
    lines.append(torn + b"\n")
  for number, line in enumerate(lines, 1):
    if line in seen or not line.strip(b"\0 \r\n"):
      removed += 1
    elif _parsed(path, number, line)["step"] <= last:
      kept.append(line)
    seen.add(line)
  if removed:
    agreement.say(f"{path}: {removed} empty or doubled lines removed")
  if torn:
    agreement.say(f"{path}: the last line was cut off and is mended")
  crc = zlib.crc32(b"".join(kept))
  if known and (len(kept), crc) != (known["lines"], known["crc"]):
    hint = f"its {len(kept)} lines up to step {last} are not the {known['lines']} written."
    raise ConfigError("workdir", str(path), f"{hint} {_MEND}")
  return kept


_MEND = "Put a copy in its place, or delete the file to continue without its earlier lines"
