"""TensorBoard events of a run, without TensorFlow.

tensorboardX's own writer has a thread that dies on a full disk, and the run would then wait for it
for ever.
"""

import socket
import struct
import time
from pathlib import Path

from kdjax.training.tail import Tail


class Events:
  """An event file under a folder."""

  def __init__(self, folder: Path, *, purge_step: int) -> None:
    """Begins a file; TensorBoard ignores earlier files' events of `purge_step` and later.

    Raises:
      OSError: if the folder cannot be made.
    """
    from tensorboardX.proto.event_pb2 import Event, SessionLog

    folder.mkdir(parents=True, exist_ok=True)
    name = f"events.out.tfevents.{time.time_ns() / 1e9:.6f}.{socket.gethostname()}"
    self._tail = Tail(folder / name)
    self._add(Event(wall_time=time.time(), file_version="brain.Event:2"))
    began = SessionLog(status=SessionLog.START)
    self._add(Event(wall_time=time.time(), step=purge_step, session_log=began))

  def write(self, numbers: dict[str, float], step: int) -> None:
    """Adds scalars, {tag: number}."""
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.summary import scalar

    for tag, number in numbers.items():
      self._add(Event(wall_time=time.time(), step=step, summary=scalar(tag, number)))

  def _add(self, event):
    """Adds a record: the event's length and its checksum, then the event and its checksum."""
    from tensorboardX.record_writer import masked_crc32c

    data = event.SerializeToString()
    size = struct.pack("<Q", len(data))
    sums = [struct.pack("<I", masked_crc32c(part)) for part in (size, data)]
    self._tail.add(size + sums[0] + data + sums[1])
