"""TensorBoard events, written as they come; a disk that takes none stops them, never the run."""

import time
from pathlib import Path
from typing import Any

from kdjax.core import agreement

FLUSH_SECONDS = 10.0  # between two times that events are made sure of on disk, which takes a while


class Events:
  """An event file under a folder."""

  def __init__(self, folder: Path, *, purge_step: int) -> None:
    """Begins a file; what earlier ones say of `purge_step` and later does not count."""
    from tensorboardX.event_file_writer import EventsWriter
    from tensorboardX.proto.event_pb2 import Event, SessionLog

    self._folder = folder
    self._file: Any = None
    self._flushed = time.monotonic()
    try:
      folder.mkdir(parents=True, exist_ok=True)
      self._file = EventsWriter(str(folder / "events"))
      began = SessionLog(status=SessionLog.START)
      self._file.write_event(Event(wall_time=time.time(), step=purge_step, session_log=began))
      self._file.flush()
    except OSError as error:
      self._stop(error)

  def write(self, numbers: dict[str, float], step: int) -> None:
    """Adds scalars, {tag: number}."""
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.summary import scalar

    if self._file is None:
      return
    try:
      for tag, number in numbers.items():
        event = Event(wall_time=time.time(), step=step, summary=scalar(tag, number))
        self._file.write_event(event)
      if time.monotonic() - self._flushed > FLUSH_SECONDS:
        self._file.flush()
        self._flushed = time.monotonic()
    except OSError as error:
      self._stop(error)

  def _stop(self, error):
    self._file = None
    agreement.say(f"no more events under {self._folder} ({error.strerror})")

  def close(self) -> None:
    """Closes the file."""
    try:
      if self._file:
        self._file.close()
    except OSError as error:
      self._stop(error)
