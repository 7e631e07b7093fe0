"""One run per folder: `WORKDIR/lock` names its writer, and shows by its age that it is alive.

Whether a process of this machine is alive can be seen at once. A process of another machine counts
as gone when its lock has not been touched for STALE seconds. The age is measured by the file
system's own clock, since the clocks of hosts differ; or by the newcomer's wait, since that clock
may have been set back. Until then a newcomer waits, so that an automatic restart is never turned
away. Where a file system does not create files exclusively, two runs that start in the same moment
cannot be kept apart.
"""

import contextlib
import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from kdjax import ending
from kdjax.core import agreement, hosts
from kdjax.types import ConfigError

BEAT = 10.0  # seconds between two touches of the lock
STALE = 60.0  # seconds without a touch after which a process of another machine counts as gone
LOOK = 2.0  # seconds between two looks of a run that waits


class Lock:
  """The lock of a folder, held by the first process of this run."""

  def __init__(self, path: Path, own: dict[str, Any]) -> None:
    """Holds the lock from now on, and touches it in a thread of its own."""
    self.path = path
    self._own = own
    self._done = threading.Event()
    self._thread = threading.Thread(target=self._beat, name="lock", daemon=True)
    self._thread.start()

  def _beat(self):
    while not self._done.wait(BEAT):
      with contextlib.suppress(OSError):
        if _holder(self.path) == self._own:
          os.utime(self.path)

  def check(self) -> None:
    """Raises ConfigError if another run has taken the folder, as while this machine slept."""
    holder = _holder(self.path)
    if holder and holder != self._own:
      raise _taken(self.path, holder)

  def release(self) -> None:
    """Lets the next run in."""
    self._done.set()
    self._thread.join()
    with contextlib.suppress(OSError):
      if _holder(self.path) == self._own:
        self.path.unlink()


@contextlib.contextmanager
def held(workdir: str | Path) -> Iterator[Lock | None]:
  """Holds an existing folder for this run alone; the first process holds it for all.

  Raises:
    ConfigError: if another run holds the folder.
    OSError: if the disk refuses the lock.
  """
  path = Path(workdir) / "lock"
  own = _self()
  taking = _taking(path, own, agreement.say)
  # Many short waits: the other processes would give up during a long one.
  while not agreement.from_first(lambda: next(taking)):
    pass
  with _released(Lock(path, own) if hosts.first() else None) as lock:
    yield lock


@contextlib.contextmanager
def held_for_runs(workdir: str | Path) -> Iterator[None]:
  """Holds an existing folder for this process alone, whose runs train in processes of their own.

  It asks nothing of JAX, which would take the runs' TPU, or most of the memory of their GPU.

  Raises:
    ConfigError, OSError: as `held`.
  """
  path = Path(workdir) / "lock"
  own = _self()
  for _ in _taking(path, own, ending.say):
    pass
  with _released(Lock(path, own)):
    yield


@contextlib.contextmanager
def _released(lock):
  """Releases a lock, or None, at its end."""
  try:
    yield lock
  finally:
    if lock:
      lock.release()


@contextlib.contextmanager
def claimed(folder: str, clients: Iterable[int]) -> Iterator[None]:
  """Claims clients for this process alone, among the peers of a shared folder.

  `FOLDER/claims/CLIENT/lock` names the holder. Object storage (gs://...) has no such locks, so
  nothing is claimed there.

  Raises:
    ConfigError: if another process trains a client, or the disk refuses the lock.
  """
  with contextlib.ExitStack() as stack:
    for client in () if "://" in folder else clients:
      place = Path(folder) / "claims" / str(client)
      try:
        place.mkdir(parents=True, exist_ok=True)
        stack.enter_context(held(place))
      except OSError as error:
        hint = f"must be a folder that one can write to ({error})"
        raise ConfigError("--peers", folder, hint) from None
      except ConfigError as error:
        hint = f"another process trains this client: {place} {error.hint}"
        raise ConfigError("--peer", client, hint) from None
    yield


def _self() -> dict[str, Any]:
  return {
    "host": socket.gethostname(),
    "process": os.getpid(),
    "started": _started(os.getpid()),
    "machine": _machine(),
    "since": time.strftime("%Y-%m-%d %H:%M:%S %z"),
  }


def _machine():
  """The boot and the namespace, which processes that see each other's ids share."""
  try:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot} {os.readlink('/proc/self/ns/pid')}"
  except OSError:
    return socket.gethostname()


def _started(process):
  """When a process began, in ticks since the boot; None if it is gone, 0 if that is unknown."""
  try:
    state, *rest = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return None if state in "ZX" else int(rest[18])
  except OSError:
    if Path("/proc/self/stat").exists():
      return None
  try:
    os.kill(process, 0)
  except ProcessLookupError:
    return None
  except OSError:
    pass
  return 0


def _holder(path):
  """The holder that a lock names; {} if it cannot be read, None if there is no lock."""
  try:
    holder = json.loads(path.read_bytes())
    return holder if isinstance(holder, dict) else {}
  except FileNotFoundError:
    return None
  except (OSError, ValueError):
    return {}


def _taking(path, own, say):
  """Tries to take the lock until it can; yields False after every wait, then True.

  `say` tells the user, once, what it waits for.
  """
  seen = None  # when the lock was touched, at the look before
  began = time.monotonic()
  reported = False
  if path.is_dir():
    raise ConfigError("workdir", str(path), "is a folder, where the lock of the run would be")
  while True:
    with _alone(path.parent):
      created = _create(path, own)
      holder = _holder(path)
      age = _age(path)
      touched = _touched(path)
      alive = _alive(holder, own)
      untouched = max(age, time.monotonic() - began)
      free = holder is None or alive is False or (alive is None and untouched > STALE)
      if free and not created:
        path.unlink(missing_ok=True)
    if created:
      yield True
      return
    if free:
      continue
    if alive or (seen is not None and touched != seen):
      raise _taken(path, holder)
    if not reported:
      host = holder.get("host", "an unknown host")
      say(f"{path} is {host}'s and {age:.0f} s old: waiting until it is touched or stale")
      reported = True
    seen = touched
    time.sleep(LOOK)
    yield False


def _alive(holder, own):
  """Whether the process that holds a lock is alive; None if only the lock's age can tell."""
  if not holder or holder.get("machine") != own["machine"]:
    return None
  return _started(holder.get("process")) == holder.get("started", -1)


def _create(path, own):
  """Tries to create the lock, which only one of several processes can; returns whether it did."""
  try:
    with open(path, "x") as file:
      try:
        json.dump(own, file)
        file.flush()
      except OSError:
        path.unlink(missing_ok=True)
        raise
    return True
  except FileExistsError:
    return False


def _touched(path):
  try:
    return path.stat().st_mtime_ns
  except OSError:
    return None


def _age(path):
  """Seconds since the lock was touched, by the file system's clock."""
  fresh = path.with_name(f".lock.{os.getpid()}")  # tells the file system's time now
  try:
    fresh.touch()
    return (fresh.stat().st_mtime_ns - path.stat().st_mtime_ns) / 1e9
  except FileNotFoundError:
    return 0.0
  finally:
    fresh.unlink(missing_ok=True)


@contextlib.contextmanager
def _alone(folder):
  """Admits one process of this machine at a time, if the file system has such locks."""
  descriptor = os.open(folder, os.O_RDONLY)
  try:
    with contextlib.suppress(OSError):
      fcntl.flock(descriptor, fcntl.LOCK_EX)
    yield
  finally:
    os.close(descriptor)


def _taken(path, holder):
  """The error for a folder that another run holds."""
  who = "process {process} on {host} since {since}".format_map({**_UNKNOWN, **(holder or {})})
  hint = f"is being written by {who}; {path} is its lock"
  return ConfigError("workdir", str(path.parent), hint)


_UNKNOWN = {"process": "?", "host": "an unknown host", "since": "an unknown time"}
