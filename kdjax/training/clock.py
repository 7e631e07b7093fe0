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

  The next input is made before the clock waits for the older dispatch, because the newer one may be
  short (an exchange of models). Phases without losses count as done as soon as they are dispatched,
  so a few more can be under way. With dozens under way XLA:CPU's host devices sometimes wait for
  each other for ever.

  The device waits for input when it has finished every dispatch and the next dispatch's input is
  not ready. A thread notes when each dispatch is done.
  """

  def __init__(self) -> None:
    """Starts the clock."""
    self.began = time.monotonic()
    self.compiled = self.paused = self.waited = 0.0  # seconds
    self._since = (0.0, 0.0)  # (working, waited) at the last `input_bound`
    self._noting = ThreadPoolExecutor(1)
    self._before: Future[float] | None = None  # the same of the dispatch before the newest
    self._last: Future[float] | None = None  # the time at which the newest dispatch is done

  def close(self) -> None:
    """Ends the thread."""
    self._noting.shutdown()

  def waiting(self, feeds: Iterator[T]) -> Iterator[T]:
    """Yields the items of `feeds`, each when at most one dispatch is under way.

    It counts how long the device waited for the item, and raises the error of the dispatch before
    the newest, if that failed.
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
    """Registers a dispatch; returns a future of the time at which it is done."""

    def done():
      jax.block_until_ready(aux)
      return time.monotonic()

    self._before = self._last
    self._last = self._noting.submit(done)
    return self._last

  @contextlib.contextmanager
  def compiling(self) -> Iterator[None]:
    """Counts the time inside as compilation."""
    began = time.monotonic()
    yield
    self.compiled += time.monotonic() - began

  @contextlib.contextmanager
  def pausing(self) -> Iterator[None]:
    """Counts the time inside as a pause: an evaluation, or the start of a save."""
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
