"""One of several processes that want a folder: a file of its own, which imports little."""

import time

from kdjax.training import lock
from kdjax.types import ConfigError


def enter(workdir, barrier, results):
  """Holds the folder for a while, or is refused; says which."""
  barrier.wait()
  try:
    with lock.held(workdir):
      results.put("held")
      time.sleep(1.5)
  except ConfigError:
    results.put("refused")
