"""Several processes that have to act alike: what the first finds out, all know."""

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
  """What `make`, called in the first process alone, returns there: a JSON value, in all.

  Raises:
    ConfigError, OSError: in all, where it does in the first.
  """
  if hosts.alone():
    return make()
  said = _outcome(make) if jax.process_index() == 0 else b""
  size = int(multihost_utils.broadcast_one_to_all(np.int32(len(said))))
  buffer = np.frombuffer(said.ljust(size), np.uint8)
  found = json.loads(bytes(np.asarray(multihost_utils.broadcast_one_to_all(buffer), np.uint8)))
  if "config" in found:
    raise ConfigError(*found["config"])
  if "disk" in found:
    raise OSError(*found["disk"])
  return found["value"]


def _outcome(make):
  """A call's value or its error as JSON."""
  try:
    found = {"value": make()}
  except ConfigError as error:
    found = {"config": [error.key, error.value, error.hint]}
  except OSError as error:
    found = {"disk": [error.errno, error.strerror, error.filename]}
  return json.dumps(found, default=str).encode()


def anywhere(flag: bool) -> bool:
  """Whether a flag is set in any process; waits for all of them."""
  return flag if hosts.alone() else bool(added(np.array([flag], np.uint64))[0])


def added(numbers: np.ndarray) -> np.ndarray:
  """u64[N], the sum over processes."""
  if hosts.alone():
    return numbers
  halves = numbers.view(np.uint32)  # JAX has no u64 unless told to
  everyone = np.asarray(multihost_utils.process_allgather(halves))
  return everyone.view(np.uint64).sum(axis=0, dtype=np.uint64)


def say(line: str) -> None:
  """One line to the user, from the first process."""
  if jax.process_index() == 0:
    print(f"kdjax: {line}", file=sys.stderr, flush=True)
