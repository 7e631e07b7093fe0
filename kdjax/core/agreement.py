"""Agreement between processes that have to act alike: all learn what the first one found."""

import json
import sys
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from kdjax.core import hosts
from kdjax.types import ConfigError


def from_first(make: Callable[[], Any]) -> Any:
  """Calls `make` in the first process alone and returns its value, a JSON value, in all of them.

  Raises:
    ConfigError, OSError: in all processes, where the first one raises it.
  """
  if hosts.alone():
    return make()
  encoded = _outcome(make) if jax.process_index() == 0 else b""
  size = int(multihost_utils.broadcast_one_to_all(np.int32(len(encoded))))
  buffer = np.frombuffer(encoded.ljust(size), np.uint8)
  outcome = json.loads(bytes(np.asarray(multihost_utils.broadcast_one_to_all(buffer), np.uint8)))
  if "config" in outcome:
    raise ConfigError(*outcome["config"])
  if "disk" in outcome:
    raise OSError(*outcome["disk"])
  return outcome["value"]


def _outcome(make):
  """A call's value or its error as JSON."""
  try:
    outcome = {"value": make()}
  except ConfigError as error:
    outcome = {"config": [error.key, error.value, error.hint]}
  except OSError as error:
    outcome = {"disk": [error.errno, error.strerror, error.filename]}
  return json.dumps(outcome, default=str).encode()


def anywhere(flag: bool) -> bool:
  """Whether a flag is set in any process; waits for all of them."""
  return flag if hosts.alone() else bool(added(np.array([flag], np.uint64))[0])


def added(numbers: np.ndarray) -> np.ndarray:
  """u64[N], the sum over processes."""
  if hosts.alone():
    return numbers
  halves = numbers.view(np.uint32)  # JAX has no u64 by default
  gathered = np.asarray(multihost_utils.process_allgather(halves))
  return gathered.view(np.uint64).sum(axis=0, dtype=np.uint64)


def say(line: str) -> None:
  """Prints one line for the user, in the first process only."""
  if jax.process_index() == 0:
    print(f"kdjax: {line}", file=sys.stderr, flush=True)
