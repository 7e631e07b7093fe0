"""The shared folder: FOLDER/KIND/SENDER/ROUND.msg, each written whole by its sender alone.

Any path that Orbax can write to, a local one or gs://, through its own path layer, `etils.epath`.
"""

import contextlib
import os
import re
from collections.abc import Iterator
from typing import Any

from etils import epath

from kdjax.peers import messages
from kdjax.peers.messages import Arrays, Envelope, Kind, Refused
from kdjax.types import ConfigError

NAME = re.compile(r"([0-9]{1,9})\.msg")
PART = ".tmp"  # what its sender has not finished writing


@contextlib.contextmanager
def store() -> Iterator[None]:
  """Makes an OSError of whatever a store raises: each of them has errors of its own."""
  try:
    yield
  except OSError:
    raise
  except Exception as error:
    raise OSError(f"{type(error).__name__}: {error}") from error


class Mailbox:
  """What is left in a shared folder by the peers of one experiment."""

  def __init__(self, folder: str, experiment: str) -> None:
    """Makes the folder; `experiment` is the hash that all messages carry.

    Raises:
      ConfigError: for a place that cannot be a folder.
    """
    self.folder, self.experiment = epath.Path(folder), experiment
    try:
      with store():
        self.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
      hint = f"must be a folder that one can write to ({error})"
      raise ConfigError("--peers", str(folder), hint) from None

  def leave(self, kind: Kind, sender: int, round: int, arrays: Arrays) -> int:
    """Writes a message, all at once; returns its bytes.

    Raises:
      OSError: where it cannot be written.
    """
    data = messages.encode(self._envelope(kind, sender, round), arrays)
    place = self._place(kind, sender, round)
    with store():
      place.parent.mkdir(parents=True, exist_ok=True)
      part = place.with_name(f".{place.name}.{os.getpid()}{PART}")
      try:
        part.write_bytes(data)
        part.replace(place)
      finally:
        part.unlink(missing_ok=True)
    return len(data)

  def rounds(self, kind: Kind, sender: int) -> list[int]:
    """The rounds of which there is a message, ascending."""
    try:
      with store():
        names = [path.name for path in self._place(kind, sender, 0).parent.iterdir()]
    except OSError:  # nothing was left yet, or no folder is there
      return []
    return sorted(int(found[1]) for found in map(NAME.fullmatch, names) if found)

  def stamp(self, kind: Kind, sender: int, round: int) -> Any:
    """What changes when a message is written again; None where there is none."""
    try:
      with store():
        found = self._place(kind, sender, round).stat()
    except OSError:
      return None
    return found.is_directory, found.length, found.mtime

  def read(self, kind: Kind, sender: int, round: int) -> Arrays:
    """A message, checked.

    Raises:
      Refused: for one that cannot be used, with the reason; its size is asked before it is read.
    """
    place, envelope = self._place(kind, sender, round), self._envelope(kind, sender, round)
    try:
      with store():
        found = place.stat()
        right = not found.is_directory and found.length == envelope.nbytes
        data = _bytes(place, envelope.nbytes + 1) if right else b""
    except OSError:
      raise Refused("read") from None
    return messages.decode(data, envelope, kind.check)

  def tidy(self, kind: Kind, sender: int, before: int) -> None:
    """Removes a sender's messages of rounds below `before`, and what a kill left half written.

    Raises:
      OSError: where they cannot be removed.
    """
    with store():
      for path in self._place(kind, sender, 0).parent.iterdir():
        found = NAME.fullmatch(path.name)
        if path.suffix == PART or (found and int(found[1]) < before):
          path.unlink(missing_ok=True)

  def _place(self, kind, sender, round):
    return self.folder / kind.name / str(sender) / f"{round}.msg"

  def _envelope(self, kind, sender, round):
    return Envelope(kind.name, sender, round, self.experiment, kind.shapes(sender))


def _bytes(place, most):
  with place.open("rb") as file:
    return file.read(most)
