"""What a run writes while it trains: metrics.jsonl, TensorBoard events, a progress bar, JSON."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from kdjax.core.files import plain, replace

METRICS = "metrics.jsonl"


class Writer:
  """Appends to WORKDIR/metrics.jsonl and to TensorBoard events under WORKDIR/tensorboard.

  One process writes: with several, only the first makes a `Writer`.
  """

  def __init__(self, workdir: str | Path, *, resume_step: int | None) -> None:
    """Opens the files; on resume, cuts off what was written after the restored step.

    Args:
      workdir: the run's folder; made where it is missing.
      resume_step: int, training batches at the restored step; lines with a greater `step` and an
        incomplete last line are cut off. None: nothing was restored, the file starts empty.
    """
    from tensorboardX import SummaryWriter

    folder = Path(workdir)
    folder.mkdir(parents=True, exist_ok=True)
    first = 0 if resume_step is None else resume_step + 1  # the first step to be written again
    _cut(folder / METRICS, first)
    self._file = open(folder / METRICS, "ab")  # noqa: SIM115, closed by `close`
    self._events = SummaryWriter(str(folder / "tensorboard"), purge_step=first)

  def write(self, step: int, phase: str, numbers: dict[str, Any]) -> None:
    """Appends one line and flushes it.

    Args:
      step: int, training batches so far.
      phase: str, the phase's name or 'eval'.
      numbers: {key: a number or a 0-d array}; what is not finite is written as null, since JSON
        has no word for it, and is left out of TensorBoard.
    """
    numbers = {key: plain(np.asarray(value).item()) for key, value in numbers.items()}
    line = dict(step=int(step), phase=phase, **numbers)
    self._file.write(json.dumps(line, allow_nan=False).encode() + b"\n")
    self._file.flush()
    for key, value in numbers.items():
      if value is not None:
        self._events.add_scalar(f"{phase}/{key}", value, int(step))

  def close(self) -> None:
    """Closes both files."""
    self._file.close()
    self._events.close()

  def __enter__(self):
    return self

  def __exit__(self, *exception):
    self.close()


def read_metrics(workdir: str | Path) -> list[dict[str, Any]]:
  """The complete lines of WORKDIR/metrics.jsonl as dicts, null as None."""
  path = Path(workdir) / METRICS
  return [json.loads(line) for line in _lines(path)] if path.exists() else []


class Silent:
  """A `Writer` or `Progress` that shows nothing: with several processes, all but the first's."""

  def __init__(self, *arguments: Any, **keywords: Any) -> None:
    """Takes whatever those take."""

  def write(self, step: int, phase: str, numbers: dict[str, Any]) -> None:
    """Nothing is written."""

  def update(self, step: int, **numbers: Any) -> None:
    """Nothing is shown."""

  def __enter__(self):
    return self

  def __exit__(self, *exception):
    pass


def _lines(path):
  """The complete lines of a file, each with its end: what a killed process left half is no line."""
  return [line for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]


def _cut(path, first):
  """Keeps the complete lines of a metrics file with `step < first`, byte by byte."""
  if path.exists():
    kept = [line for line in _lines(path) if json.loads(line)["step"] < first]
    replace(path, b"".join(kept))
