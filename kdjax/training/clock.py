"""Where a run's time goes: computing, compiling, pauses, and waiting for input."""

import contextlib
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import jax

from kdjax.types import PyTree

T = TypeVar("T")
LEAST = 1e-9  # seconds: what a rate is divided by


class Clock:
  """Times one stretch of training, and keeps two dispatches under way.

  The next input is made before the older of them is waited for: the newer one may be short (an
  exchange of models). Phases without losses are done as soon as they are dispatched, so that a few
  more can be under way. With dozens XLA:CPU's host devices sometimes wait for each other for ever.

  The loop waits for input when the device has finished all that was dispatched and the next
  dispatch's input is not there yet. A thread notes when each dispatch is done.
  """

  def __init__(self) -> None:
    """Starts the clock."""
    self.began = time.monotonic()
    self.compiled = self.paused = self.waited = 0.0  # seconds
    self._since = (0.0, 0.0)  # (working, waited) at the last `input_bound`
    self._noting = ThreadPoolExecutor(1)
    self._before: Future[float] | None = None  # the one before `_last`
    self._last: Future[float] | None = None  # the time at which the newest dispatch is done

  def close(self) -> None:
    """Ends the thread."""
    self._noting.shutdown()

  def waiting(self, feeds: Iterator[T]) -> Iterator[T]:
    """Yields what `feeds` does, each once one dispatch at most is under way.

    Notes how long the device waited for it. Raises what went wrong in the dispatch before the last.
    """
    while True:
      asked = time.monotonic()
      try:
        item = next(feeds)
      except StopIteration:
        return
      if self._last is None or self._last.done():
        idle = asked if self._last is None else max(asked, self._last.result())
        self.waited += max(0.0, time.monotonic() - idle)
      if self._before is not None:
        self._before.result()
      yield item

  def dispatched(self, aux: PyTree) -> Future[float]:
    """Takes note of a dispatch; returns a future of the time at which it is done."""

    def done():
      jax.block_until_ready(aux)
      return time.monotonic()

    self._before, self._last = self._last, self._noting.submit(done)
    return self._last

  @contextlib.contextmanager
  def compiling(self) -> Iterator[None]:
    """Inside, time is spent on compilation."""
    began = time.monotonic()
    yield
    self.compiled += time.monotonic() - began

  @contextlib.contextmanager
  def pausing(self) -> Iterator[None]:
    """Inside, time is spent on an evaluation, or on starting a save."""
    began = time.monotonic()
    yield
    self.paused += time.monotonic() - began

  def wall(self) -> float:
    """Seconds since the start."""
    return time.monotonic() - self.began

  def spent(self) -> float:
    """Seconds of compilation and pauses so far."""
    return self.compiled + self.paused

  def working(self) -> float:
    """Seconds since the start that were neither compilation nor pause."""
    return max(self.wall() - self.spent(), LEAST)

  def input_bound(self) -> float:
    """The share of the working time since the last call in which the device waited for input."""
    now = (self.working(), self.waited)
    working, waited = (x - y for x, y in zip(now, self._since, strict=True))
    self._since = now
    return min(waited / max(working, LEAST), 1.0)
