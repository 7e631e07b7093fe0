"""The contestants' side of a contest; see `contest.py`."""

import sys
import time

from benchmarks.rivals.channel import connect, peak_rss_bytes


def serve(prepare):
  """Answers the protocol on standard input and output until the input ends.

  Args:
    prepare: spec -> (block, facts): a function that does one block of work and waits for its
      results, and a dict for the ready line. What `block` returns, where it returns a dict
      {name: seconds}, are the block's parts. `prepare` is timed by no one; one block is run before
      the contest starts.
  """
  spec, say = connect()
  block, facts = prepare(spec)
  block()
  say(ready=True, **facts)
  for _ in sys.stdin:
    began = time.perf_counter()
    parts = block()
    seconds = time.perf_counter() - began
    say(**({"parts": parts} if parts else {"seconds": seconds}))
  say(peak_rss_bytes=peak_rss_bytes(), **_device_peak())


def _device_peak():
  """The most memory that the first accelerator held, where there is one."""
  if "jax" not in sys.modules:
    return {}
  stats = sys.modules["jax"].local_devices()[0].memory_stats() or {}
  peak = stats.get("peak_bytes_in_use")
  return {} if peak is None else {"peak_device_bytes": peak}
