"""Hides Orbax's messages about a failure: hundreds of lines from several threads.

The caller reports the failure in one line.
"""

import logging
import sys
import traceback
from typing import Any


def orbax() -> None:
  """Drops Orbax's log lines, and the errors of its unfinished reads, from now on."""
  for name in ("absl", "asyncio"):
    logger = logging.getLogger(name)
    if _wanted not in logger.filters:
      logger.addFilter(_wanted)
  if not isinstance(sys.unraisablehook, _Hook):
    sys.unraisablehook = _Hook(sys.unraisablehook)


def _wanted(record):
  """Whether a log line is not about Orbax or its store; asyncio's lines only quote them."""
  text = record.pathname + record.getMessage()
  if record.exc_info:
    text += "".join(traceback.format_exception(*record.exc_info))
  return "orbax" not in text and "tensorstore" not in text


class _Hook:
  """`sys.unraisablehook` without the reads that were under way when another read failed."""

  def __init__(self, others: Any) -> None:
    self.others = others

  def __call__(self, unraisable: Any) -> None:
    code = getattr(unraisable.object, "cr_code", None)  # a coroutine's
    late = "Event loop is closed" in str(unraisable.exc_value)  # a read that ends after all
    if not late and not (code and "orbax" in code.co_filename):
      self.others(unraisable)
