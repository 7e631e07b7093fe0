"""Files that grow at their end; what the disk does not take is kept until it does."""

from pathlib import Path

from kdjax.core import agreement


class Tail:
  """Appends to a file that is opened for every piece: a folder that vanishes is noticed."""

  def __init__(self, path: Path) -> None:
    """Writes nothing yet; what is there stays."""
    self.path, self._held, self._warned = path, b"", False
    self._end = path.stat().st_size if path.exists() else 0

  def add(self, data: bytes) -> None:
    """Appends bytes, now or later; half of an attempt that failed is cut off before."""
    self._held += data
    try:
      with open(self.path, "ab") as file:
        if file.tell() > self._end:
          file.truncate(self._end)
        file.write(self._held)
      self._end, self._held = self._end + len(self._held), b""
    except OSError as error:
      if not self._warned:
        agreement.say(f"{self.path} takes nothing ({error.strerror}): it is kept for later")
      self._warned = True
