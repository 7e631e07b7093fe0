"""Files that grow at their end; data that the disk refuses are kept in memory and tried again."""

from pathlib import Path

from kdjax.core import agreement


class Tail:
  """Appends to a file, opened anew for every piece so that a vanished folder is noticed."""

  def __init__(self, path: Path) -> None:
    """Writes nothing yet; the file's present content stays."""
    self.path = path
    self._held = b""  # data that the disk has not taken yet
    self._warned = False
    self._end = path.stat().st_size if path.exists() else 0

  def add(self, data: bytes) -> None:
    """Appends bytes, now or at a later call; first cuts off what a failed attempt left."""
    self._held += data
    try:
      with open(self.path, "ab") as file:
        if file.tell() > self._end:
          file.truncate(self._end)
        file.write(self._held)
      self._end += len(self._held)
      self._held = b""
    except OSError as error:
      if not self._warned:
        agreement.say(
          f"{self.path} cannot be written ({error.strerror}): its lines are kept for later"
        )
      self._warned = True
