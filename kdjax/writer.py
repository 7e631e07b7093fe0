"""What a run writes while it trains: metrics.jsonl, TensorBoard events, a progress bar, JSON."""

import json
import math
import os
import time
from pathlib import Path

import numpy as np
from rich import progress
from rich.console import Console

METRICS = "metrics.jsonl"
REDRAW_SECONDS = 0.25  # between two updates of the bar on a terminal
LINE_SECONDS = 10.0  # between two plain lines where there is no terminal


class Writer:
  """Appends to WORKDIR/metrics.jsonl and to TensorBoard events under WORKDIR/tensorboard.

  One process writes: with several, only the first makes a `Writer`.
  """

  def __init__(self, workdir, *, resume_step):
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

  def write(self, step, phase, numbers):
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

  def close(self):
    """Closes both files."""
    self._file.close()
    self._events.close()

  def __enter__(self):
    return self

  def __exit__(self, *exception):
    self.close()


def read_metrics(workdir):
  """The complete lines of WORKDIR/metrics.jsonl as dicts, null as None."""
  path = Path(workdir) / METRICS
  return [json.loads(line) for line in _lines(path)] if path.exists() else []


def write_json(path, value):
  """Writes a tree of dicts, sequences, NumPy arrays and scalars as JSON, all at once or not at all.

  Raises:
    TypeError: a leaf is none of these.
  """
  text = json.dumps(plain(value), indent=2, allow_nan=False) + "\n"
  _replace(Path(path), text.encode())


def read_json(path):
  """What `write_json` wrote; what was not finite comes back as None."""
  return json.loads(Path(path).read_bytes())


def plain(value):
  """The same tree in JSON's own types: arrays become lists, numbers that are not finite None."""
  if isinstance(value, dict):
    return {str(key): plain(item) for key, item in value.items()}
  if isinstance(value, list | tuple):
    return [plain(item) for item in value]
  if hasattr(value, "tolist"):  # a NumPy or JAX array or scalar
    return plain(np.asarray(value).tolist())
  return None if isinstance(value, float) and not math.isfinite(value) else value


class Silent:
  """A `Writer` or `Progress` that shows nothing: with several processes, all but the first's."""

  def __init__(self, *arguments, **keywords):
    """Takes whatever those take."""

  def write(self, step, phase, numbers):
    """Nothing is written."""

  def update(self, step, **numbers):
    """Nothing is shown."""

  def __enter__(self):
    return self

  def __exit__(self, *exception):
    pass


class Progress:
  """A bar on a terminal; elsewhere plain lines, one every 10 s and one at each evaluation."""

  def __init__(self, description, total, *, console=None):
    """Starts nothing yet: that happens on `with`.

    Args:
      description: str, shown in front.
      total: int, steps of the whole run.
      console: a `rich.console.Console`; None: standard error.
    """
    self._console = console or Console(stderr=True)
    self._description, self._total = description, total
    self._bar = _bar(self._console) if self._console.is_interactive else None
    self._numbers, self._step, self._shown, self._next = {}, 0, None, 0.0
    self._since = None  # (time, step) of the first update: compilation lies before it

  def update(self, step, **numbers):
    """Notes where the run stands and shows it now and then; free of cost in between.

    Args:
      step: int, training batches so far.
      numbers: `loss`, `accuracy` (0..1, given at an evaluation), `images_per_second`, or others;
        an array on the device is fetched only when it is shown.
    """
    self._step = step
    self._numbers.update(numbers)
    now = time.monotonic()
    if now < self._next and "accuracy" not in numbers:
      return
    self._since = self._since or (now, step)
    self._next = now + (REDRAW_SECONDS if self._bar else LINE_SECONDS)
    self._show()

  def _show(self):
    self._shown = self._step
    words = [*_words(self._numbers), *self._time_left()]
    if self._bar:
      self._bar.update(self._task, completed=self._step, words="  ".join(words))
    else:
      place = f"{self._description}  step {self._step:,}/{self._total:,}"
      self._console.print("  ".join([place, *words]), soft_wrap=True, markup=False, highlight=False)

  def _time_left(self):
    then, first = self._since
    if self._step <= first:
      return []
    seconds = (time.monotonic() - then) / (self._step - first) * (self._total - self._step)
    minutes, seconds = divmod(round(seconds), 60)
    return [f"{minutes // 60}:{minutes % 60:02}:{seconds:02} left"]

  def __enter__(self):
    if self._bar:
      self._bar.start()
      self._task = self._bar.add_task(self._description, total=self._total, words="compiling")
    return self

  def __exit__(self, *exception):
    if self._since and self._shown != self._step:
      self._show()
    if self._bar:
      self._bar.stop()


def _bar(console):
  return progress.Progress(
    progress.TextColumn("{task.description}", markup=False),
    progress.BarColumn(bar_width=None),
    progress.MofNCompleteColumn(),
    progress.TextColumn("{task.fields[words]}", markup=False),
    console=console,
    expand=True,
    refresh_per_second=1 / REDRAW_SECONDS,
  )


def _words(numbers):
  """Numbers as a reader wants them: ['loss 0.512', 'accuracy 91.2 %', '1,235 images/s']."""
  form = {"accuracy": "accuracy {:.1%}", "images_per_second": "{:,.0f} images/s"}
  return [form.get(key, key + " {:.4g}").format(float(value)) for key, value in numbers.items()]


def _lines(path):
  """The complete lines of a file, each with its end: what a killed process left half is no line."""
  return [line for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]


def _cut(path, first):
  """Keeps the complete lines of a metrics file with `step < first`, byte by byte."""
  if path.exists():
    kept = [line for line in _lines(path) if json.loads(line)["step"] < first]
    _replace(path, b"".join(kept))


def _replace(path, data):
  """Puts `data` in place of a file; whoever reads sees the old file or the new one, never half."""
  part = path.with_name(path.name + ".tmp")
  with open(part, "wb") as file:
    file.write(data)
    file.flush()
    os.fsync(file.fileno())  # the name must not become the new file's before its bytes are on disk
  part.replace(path)
