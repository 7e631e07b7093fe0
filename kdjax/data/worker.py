"""What a process is told that reads or writes images for another one."""

import multiprocessing
import os
import signal
import threading


def begin(*_: object) -> None:
  """Leaves signals, which reach a whole group, to the parent, and ends this process with it.

  A parent that was killed could not tell its workers, and they would wait for ever.
  """
  for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, signal.SIG_IGN)

  def watch():
    multiprocessing.parent_process().join()
    os._exit(1)

  threading.Thread(target=watch, daemon=True).start()
