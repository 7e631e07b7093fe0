"""The progress that a run shows: a bar on a terminal, plain lines elsewhere."""

import time
from typing import Any

from rich import progress
from rich.console import Console

REDRAW_SECONDS = 0.25  # between two updates of the bar on a terminal
LINE_SECONDS = 10.0  # between two plain lines where there is no terminal


class Progress:
  """A bar on a terminal; elsewhere plain lines, one every 10 s and one at each evaluation."""

  def __init__(
    self,
    description: str,
    total: int,
    *,
    unit: str = "step",
    console: Console | None = None,
  ) -> None:
    """Prepares the bar, which starts on `with`.

    Args:
      description: str, shown in front.
      total: int, steps of the whole run.
      unit: what is counted, if not steps.
      console: a `rich.console.Console`; None: standard error.
    """
    self._console = console or Console(stderr=True)
    self._description, self._total, self._unit = description, total, unit
    self._bar = _bar(self._console) if self._console.is_interactive else None
    self._numbers: dict[str, Any] = {}
    self._step = 0
    self._next = 0.0  # the time of the next redraw
    self._shown: int | None = None  # the step that was shown last
    # (time, step) of the first update, which comes after compilation.
    self._since: tuple[float, int] | None = None

  def update(self, step: int, **numbers: Any) -> None:
    """Notes the run's position, and shows it from time to time; the other updates cost nothing.

    Args:
      step: training batches so far.
      numbers: `loss`, `accuracy` (0..1, given at an evaluation), `images_per_second`, or others.
        An array on the device is fetched only when it is shown.
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
      place = f"{self._description}  {self._unit} {self._step:,}/{self._total:,}"
      self._console.print("  ".join([place, *words]), soft_wrap=True, markup=False, highlight=False)

  def _time_left(self):
    then, first = self._since
    if self._step <= first:
      return []
    seconds = (time.monotonic() - then) / (self._step - first) * max(0, self._total - self._step)
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
  """Numbers as text: ['loss 0.512', 'accuracy 91.2%', '1,235 images/s']."""
  form = {"accuracy": "accuracy {:.1%}", "images_per_second": "{:,.0f} images/s"}
  return [form.get(key, key + " {:.4g}").format(float(value)) for key, value in numbers.items()]
