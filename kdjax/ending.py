"""How a process ends: its exit codes, and SIGTERM and SIGINT, which are heard at any moment.

Python runs its handlers between two instructions of the main thread, which may wait in C++ for
minutes: compiling, for a peer, for a collective. So the handlers here do nothing; what counts is
the byte that the interpreter writes into a pipe at once, and a thread reads. Nothing imported here
takes time, since the command line listens before its other imports.
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

DONE, FAULT, BAD_INPUT = 0, 1, 2  # exit codes; after those below the same command goes on
STOPPED, UNSAVED, LOST = 42, 43, 44  # by a signal; the disk takes no checkpoint; a process is gone
SIGNALS = (signal.SIGTERM, signal.SIGINT)
GRACE = 25.0  # seconds that a run has to come and ask; 30 are promised, and the end takes some
SAME = 2.0  # seconds; a terminal or a launcher may signal a group, then each of it: one request

before_end: list[Callable[[int], None]] = []  # told the exit code of a process that ends at once
_heard = threading.Event()
_asks = threading.Event()  # somebody asks between steps, and saves
_told = threading.Event()  # and knows
_pipe: list[int] = []


def listen() -> None:
  """From here on a signal stops the run: it saves and ends, or ends at once, always with 42.

  At once where nobody has asked yet (`asked`), where nobody asks for `GRACE` seconds after it, and
  at a second signal.
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
  """Whether a signal has come; whoever asks will save and end when told so."""
  _asks.set()
  if _heard.is_set():
    _told.set()
  return _heard.is_set()


def end(code: int, line: str) -> NoReturn:
  """Ends this process at once from any thread, with one line.

  Nothing is closed: files are whole at any moment (`core/files.py`), checkpoints too.
  """
  for tell in before_end:
    tell(code)
  say(line)
  os._exit(code)


def fail(code: int, line: str) -> NoReturn:
  """Ends this process because of an error, with one line; at once where others wait for it."""
  if before_end:
    end(code, line)
  print(f"kdjax: {line}", file=sys.stderr)
  sys.exit(code)


def say(line: str) -> None:
  """Writes a line to stderr past its buffer; waits for no reader; a hidden cursor comes back."""
  text = ("\033[?25h\n" if os.isatty(2) else "") + f"kdjax: {line}\n"
  with contextlib.suppress(OSError, ValueError):  # stderr may be closed
    if select.select([], [2], [], 1.0)[1]:
      os.write(2, text.encode())


def unread(text: str = "") -> bool:
  """Whether what is printed has no reader any more, as after `head`; it is dropped from then on.

  Args:
    text: printed to find out; without any, only what is still in the buffer tells.
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
  _heard.set()
  first = time.monotonic()
  if not _asks.is_set():
    end(STOPPED, "stopped before there was anything to save; the same command begins anew")
  say("stopping after this step; once more to end at once")
  while True:
    more = os.read(fd, 64) if select.select([fd], [], [], 0.2)[0] else b""
    late = time.monotonic() - first
    if _stops(more) and late > SAME:
      end(STOPPED, "ended at once; the same command resumes from the last checkpoint")
    if late > GRACE and not _told.is_set():
      line = f"this step takes more than {GRACE:g} s, so it is not saved"
      end(STOPPED, f"stopped: {line}; the same command resumes from the last checkpoint")


def _stops(signals):
  """Whether what the interpreter wrote, a byte for each signal, asks for the end."""
  return any(number in SIGNALS for number in signals)


def _forget():
  """A forked child has a pipe and signals of its own."""
  signal.set_wakeup_fd(-1)
  for number in SIGNALS:
    signal.signal(number, signal.SIG_DFL)
