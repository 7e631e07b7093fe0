"""How a process ends: its exit codes, and SIGTERM and SIGINT, which it notices at any moment.

Python runs signal handlers between two instructions of the main thread, which may wait in C++ for
minutes: for a compilation, a peer or a collective. So the handlers here do nothing. Instead a
thread reads the byte that the interpreter writes into a pipe at once. The imports of this module
take no time, because the command line listens for signals before its other imports.
"""

import contextlib
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import NoReturn

# Exit codes. After the last three the same command resumes the run.
DONE, FAULT, BAD_INPUT = 0, 1, 2
STOPPED = 42  # stopped by a signal
UNSAVED = 43  # the disk takes no checkpoint
LOST = 44  # another process is gone
SIGNALS = (signal.SIGTERM, signal.SIGINT)
GRACE = 25.0  # seconds that a run has to ask for signals; 30 are promised, and the end takes some
# Seconds in which signals count as one request: a launcher may signal a group, then each member.
SAME = 2.0

before_end: list[Callable[[int], None]] = []  # called with the exit code before an end at once
_signalled = threading.Event()
_asks = threading.Event()  # the run asks for signals between steps, and saves
_noticed = threading.Event()  # the run has asked since the signal
_pipe: list[int] = []


def listen() -> None:
  """Listens for signals from now on: a signal makes the run save and end, or end at once, with 42.

  The run ends at once if it has not called `asked` before the signal, if it does not call `asked`
  within `GRACE` seconds after it, or at a second signal.
  """
  if _pipe:
    return
  _pipe.extend(os.pipe())
  os.set_blocking(_pipe[1], False)
  threading.Thread(target=_watch, args=(_pipe[0],), daemon=True).start()
  signal.set_wakeup_fd(_pipe[1], warn_on_full_buffer=False)
  for number in SIGNALS:
    signal.signal(number, lambda number, frame: None)
  os.register_at_fork(after_in_child=_forget)


def asked() -> bool:
  """Whether a signal has come; the caller must then save and end."""
  _asks.set()
  if _signalled.is_set():
    _noticed.set()
  return _signalled.is_set()


def end(code: int, line: str) -> NoReturn:
  """Ends this process at once from any thread, with one line.

  Nothing is closed: files (`core/files.py`) and checkpoints are whole at any moment.
  """
  for callback in before_end:
    callback(code)
  say(line)
  os._exit(code)


def fail(code: int, line: str) -> NoReturn:
  """Ends this process because of an error, with one line; at once if others wait for it."""
  if before_end:
    end(code, line)
  print(f"kdjax: {line}", file=sys.stderr)
  sys.exit(code)


def say(line: str) -> None:
  """Writes a line to stderr past its buffer without waiting for a reader; unhides the cursor."""
  text = ("\033[?25h\n" if os.isatty(2) else "") + f"kdjax: {line}\n"
  with contextlib.suppress(OSError, ValueError):  # stderr may be closed
    if select.select([], [2], [], 1.0)[1]:
      os.write(2, text.encode())


def unread(text: str = "") -> bool:
  """Whether stdout's reader has gone (`kdjax ... | head`); if so, further output is discarded.

  Args:
    text: text to print for the test; without it only text in the buffer can show that.
  """
  try:
    print(end=text, flush=True)
  except BrokenPipeError:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return True
  return False


def _watch(fd):
  while not _stops(os.read(fd, 64)):
    pass
  _signalled.set()
  first = time.monotonic()
  if not _asks.is_set():
    end(STOPPED, "stopped before there was anything to save; the same command starts over")
  say("stopping after this step; once more to end at once")
  while True:
    more = os.read(fd, 64) if select.select([fd], [], [], 0.2)[0] else b""
    late = time.monotonic() - first
    if _stops(more) and late > SAME:
      end(STOPPED, "ended at once; the same command resumes from the last checkpoint")
    if late > GRACE and not _noticed.is_set():
      line = f"this step takes more than {GRACE:g} s, so it is not saved"
      end(STOPPED, f"stopped: {line}; the same command resumes from the last checkpoint")


def _stops(signals):
  """Whether any of these signals, a byte each, asks for the end."""
  return any(number in SIGNALS for number in signals)


def _forget():
  """Gives a forked child the default signals, without this process's pipe."""
  signal.set_wakeup_fd(-1)
  for number in SIGNALS:
    signal.signal(number, signal.SIG_DFL)
