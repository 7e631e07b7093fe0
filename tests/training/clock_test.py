"""How long a device waits for input, by events that the test sets off."""

import threading
import time

import pytest

from kdjax.training import clock

STEP = 0.1  # seconds; a busy machine may take longer, never less


@pytest.fixture
def timer(monkeypatch):
  """A Clock for which a dispatch is done when its event is set."""
  monkeypatch.setattr(clock.jax, "block_until_ready", lambda event: event.wait())
  it = clock.Clock()
  yield it
  it.close()


def finished():
  event = threading.Event()
  event.set()
  return event


def slow(n, seconds=STEP):
  """A feed whose items take so long."""
  for i in range(n):
    time.sleep(seconds)
    yield i


def test_a_slow_feed_of_a_fast_device_is_waited_for(timer):
  for _ in timer.waiting(slow(3)):
    timer.dispatched(finished()).result()
  assert timer.waited >= 3 * STEP * 0.9
  assert timer.input_bound() > 0.9
  time.sleep(STEP)
  assert timer.input_bound() < 0.1  # nothing since


def test_a_busy_device_does_not_wait(timer):
  """Reading takes long, but the device has not finished when the input is there."""
  feed, event = timer.waiting(slow(2)), threading.Event()
  next(feed)
  first = timer.waited  # nothing was dispatched: the first input is always waited for
  timer.dispatched(event)
  next(feed)
  event.set()
  assert first >= STEP * 0.9 and timer.waited == first


def test_only_the_time_after_the_device_was_done_counts(timer):
  event = threading.Event()

  def late():
    yield 0
    time.sleep(STEP)
    event.set()
    done.result()
    time.sleep(STEP)
    yield 1

  feed = timer.waiting(late())
  next(feed)
  done = timer.dispatched(event)
  before, began = timer.waited, time.monotonic()
  next(feed)
  asked = time.monotonic() - began
  assert STEP * 0.9 <= timer.waited - before <= asked - STEP * 0.9


def test_the_next_input_is_made_while_two_dispatches_are_under_way(timer):
  made, events = [], [threading.Event(), threading.Event()]

  def feed():
    for n in range(3):
      made.append(n)
      yield n
      if n == 1:
        threading.Timer(STEP, events[0].set).start()

  items = timer.waiting(feed())
  assert next(items) == 0
  timer.dispatched(events[0])
  assert next(items) == 1  # one is under way: not waited for
  done = timer.dispatched(events[1])
  began = time.monotonic()
  assert next(items) == 2 and made == [0, 1, 2]  # comes when the first is done
  assert time.monotonic() - began >= STEP * 0.9 and not done.done()
  events[1].set()
  assert began <= done.result() <= time.monotonic()


def test_an_error_of_the_device_reaches_the_loop(timer, monkeypatch):
  def fail(event):
    raise RuntimeError("out of memory")

  monkeypatch.setattr(clock.jax, "block_until_ready", fail)
  timer.dispatched(None)
  timer.dispatched(None)
  with pytest.raises(RuntimeError, match="out of memory"):
    next(timer.waiting(iter([0])))


def test_compilation_and_pauses_are_not_work(timer):
  with timer.compiling():
    time.sleep(STEP)
  with timer.pausing():
    time.sleep(STEP)
  assert timer.compiled >= STEP * 0.9 and timer.paused >= STEP * 0.9
  assert timer.working() <= timer.wall() - timer.spent()
