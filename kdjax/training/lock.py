"""One run a folder: `WORKDIR/lock` says who writes there, and shows by its age that it still does.

A process of this machine is alive or not, which decides at once. One of another machine is believed
gone when its lock has not been touched for STALE seconds by the file system's own clock, since the
clocks of hosts differ; until then a newcomer waits, so that an automatic restart is never turned
away. File systems that do not create a file exclusively cannot keep two apart that start in the
same moment.
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

from kdjax.core import agreement, hosts
from kdjax.types import ConfigError

BEAT, STALE, LOOK = 10.0, 60.0, 2.0  # seconds: between touches, until one is gone, between looks


class Lock:
  """A folder's, held by this process or by one that this one belongs to."""

  def __init__(self, path: Path, own: dict[str, Any]) -> None:
    """Held from now on; it is touched in a thread of its own."""
    self.path, self._own, self._done = path, own, threading.Event()
    self._thread = threading.Thread(target=self._beat, name="lock", daemon=True)
    self._thread.start()

  def _beat(self):
    while not self._done.wait(BEAT):
      with contextlib.suppress(OSError):
        if _holder(self.path) == self._own:
          os.utime(self.path)

  def check(self) -> None:
    """Raises ConfigError where another run has taken the folder, as while a machine slept."""
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
  """A folder for this run alone, which must be there; the first process holds it for all.

  Raises:
    ConfigError: where another run holds it.
    OSError: where the disk takes no lock.
  """
  path, own, lock = Path(workdir) / "lock", _self(), None
  taking = _taking(path, own)
  while not agreement.from_first(lambda: next(taking)):  # others would give up on one long wait
    pass
  if hosts.first():
    lock = Lock(path, own)
  try:
    yield lock
  finally:
    if lock:
      lock.release()


@contextlib.contextmanager
def claimed(folder: str, clients: Iterable[int]) -> Iterator[None]:
  """Clients that this process alone trains, of those that meet in a shared folder.

  `FOLDER/claims/CLIENT/lock` says who it is. Object storage (gs://...) knows no such locks: there
  nothing is claimed.

  Raises:
    ConfigError: for a client that another process trains, or a disk that takes no lock.
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
  """What processes that see each other's numbers share: the boot and the namespace."""
  try:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot} {os.readlink('/proc/self/ns/pid')}"
  except OSError:
    return socket.gethostname()


def _started(process):
  """When a process began, in the machine's own ticks; None where it is gone, 0 where unknown."""
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
  """Who a lock says holds it; {} where that cannot be read, None where there is no lock."""
  try:
    found = json.loads(path.read_bytes())
    return found if isinstance(found, dict) else {}
  except FileNotFoundError:
    return None
  except (OSError, ValueError):
    return {}


def _taking(path, own):
  """Looks whether the lock is to be had, and again; yields False while it waits, then True."""
  seen, said = None, False
  if path.is_dir():
    raise ConfigError("workdir", str(path), "is a folder, where the lock of the run would be")
  while True:
    with _alone(path.parent):
      created = _create(path, own)
      holder, age, touched = _holder(path), _age(path), _touched(path)
      alive = _alive(holder, own)
      free = holder is None or alive is False or (alive is None and age > STALE)
      if free and not created:
        path.unlink(missing_ok=True)
    if created:
      yield True
      return
    if free:
      continue
    if alive or (seen is not None and touched != seen):
      raise _taken(path, holder)
    if not said:
      who = holder.get("host", "an unknown host")
      agreement.say(f"{path} is {who}'s and {age:.0f} s old: waiting until it is touched, or stale")
    seen, said = touched, True
    time.sleep(LOOK)
    yield False


def _alive(holder, own):
  """Whether the process that holds a lock lives; None where only its age can tell."""
  if not holder or holder.get("machine") != own["machine"]:
    return None
  return _started(holder.get("process")) == holder.get("started", -1)


def _create(path, own):
  """Whether the lock could be created, which one of several can."""
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
  now = path.with_name(f".lock.{os.getpid()}")
  try:
    now.touch()
    return (now.stat().st_mtime_ns - path.stat().st_mtime_ns) / 1e9
  except FileNotFoundError:
    return 0.0
  finally:
    now.unlink(missing_ok=True)


@contextlib.contextmanager
def _alone(folder):
  """One process of this machine at a time, where the file system has such locks."""
  place = os.open(folder, os.O_RDONLY)
  try:
    with contextlib.suppress(OSError):
      fcntl.flock(place, fcntl.LOCK_EX)
    yield
  finally:
    os.close(place)


def _taken(path, holder):
  who = "process {process} on {host} since {since}".format_map({**_UNKNOWN, **(holder or {})})
  hint = f"is being written by {who}; {path} is its lock"
  return ConfigError("workdir", str(path.parent), hint)


_UNKNOWN = {"process": "?", "host": "an unknown host", "since": "an unknown time"}
