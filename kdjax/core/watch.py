"""Several processes: each one notices when another one is gone, and ends.

A collective waits forever for a process that died. JAX's own heartbeat takes 100 seconds and then
aborts. Here every process keeps a TCP connection to the first one, in a thread of its own. The
kernel closes the connection the moment a process dies; a process that is stopped falls silent, and
so does a host without power. Heartbeats in files of the run's folder would need no port, but a slow
file system would look like a lost process, and a death would only be seen once its last heartbeat
is old.

A false alarm is worse than a late one. The thread runs while XLA compiles, and a minute of silence
is longer than a loaded machine causes.

JAX's coordination service runs in the first process, and a process that loses it is aborted.
Therefore the first process ends last.
"""

import contextlib
import selectors
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

from kdjax import ending
from kdjax.types import ConfigError, TrainingError

BEAT = 2.0  # seconds between two heartbeats
SILENCE = 60.0  # seconds of silence after which a process counts as lost
PATIENCE = 3.0  # seconds that the first process, about to end, waits for the others to end
POLL = 0.02  # seconds between two checks whether they have ended
FIRST = 0


class Link:
  """The connection to another process."""

  def __init__(self, connection: socket.socket, process: int = -1, host: str = "") -> None:
    """`process` is -1 until the other side has sent its number."""
    self.connection = connection
    self.process = process
    self.host = host
    self.buffer = b""  # the start of a line that has not ended yet
    self.last_received = time.monotonic()
    self.over = False  # the other process is done, so its connection may close

  def send(self, line: str) -> None:
    """Sends a line. Errors are ignored: an unreachable process is detected by its silence."""
    with contextlib.suppress(OSError):
      self.connection.sendall(line.encode() + b"\n")

  def lines(self) -> list[str] | None:
    """The complete lines received since the last call; None if the connection has closed."""
    try:
      received = self.connection.recv(4096)
    except OSError:
      received = b""
    if not received:
      return None
    self.last_received = time.monotonic()
    *whole, self.buffer = (self.buffer + received).split(b"\n")
    return [line.decode(errors="replace") for line in whole]


class ProcessWatch:
  """One process's view of the others: the first process watches all, every other only the first."""

  def __init__(self, processes: int, server: socket.socket | None = None) -> None:
    """The first process has a `server`, to which the others connect."""
    self.missing = set(range(1, processes)) if server else set()
    self.code: int | None = None  # the exit code with which this process is about to end
    self.until = 0.0  # when it ends at the latest, if the others have not ended before
    self.began = self.judged = time.monotonic()
    self.links: list[Link] = []
    self.selector = selectors.DefaultSelector()
    if server:
      accept = lambda: self.add(Link(server.accept()[0]))
      self.selector.register(server, selectors.EVENT_READ, accept)

  def add(self, link: Link) -> None:
    """Listens to one more connection."""
    self.links.append(link)
    self.selector.register(link.connection, selectors.EVENT_READ, lambda: self.receive(link))

  def run(self) -> None:
    """Sends heartbeats and listens until the process ends."""
    last_beat = 0.0
    while True:
      self.listen(BEAT / 2)
      now = time.monotonic()
      if now - last_beat >= BEAT:
        last_beat = now
        self.tell("beat")
      self.judge(now)

  def listen(self, seconds: float) -> None:
    """Handles what has arrived, and what arrives first within the given time."""
    for key, _ in self.selector.select(seconds):
      key.data()

  def receive(self, link: Link) -> None:
    """Handles what has arrived on a connection, its end included."""
    lines = link.lines()
    for line in lines or ():
      self.obey(link, *line.split(" "))
    if lines is None or (lines and link.process < 0):  # not one of the run's processes
      self.selector.unregister(link.connection)
      self.links.remove(link)
      link.connection.close()
      if not link.over and link.process >= 0:
        self.lost(f"process {link.process} on {link.host} has been gone since {clock()}")

  def obey(self, link: Link, word: str, *rest: str) -> None:
    """Acts on a line: hello PROCESS HOST; done; ends CODE [PROCESS]; gone WHAT; beat."""
    if link.process < 0:
      if word == "hello" and len(rest) == 2 and rest[0] in map(str, self.missing):
        link.process, link.host = int(rest[0]), rest[1]
        self.missing.remove(link.process)
        if self.code is not None:
          link.send(f"ends {self.code}")
    elif word == "done":
      link.over = True
    elif self.code is not None:
      return
    elif word == "ends":
      code = rest[0]
      process = rest[1] if len(rest) > 1 else link.process
      self.tell(f"ends {code} {process}", but=link)
      self.leave(int(code), f"process {process} ended with exit code {code}")
    elif word == "gone":
      self.leave(ending.LOST, " ".join(rest))

  def judge(self, now: float) -> None:
    """Ends this process if another one has been silent for too long, or never connected.

    If this process was itself stopped for long, perhaps with all the others (Ctrl-Z), the time of
    silence starts again.
    """
    if now - self.judged > SILENCE / 2:
      self.began = now
      for link in self.links:
        link.last_received = now
    self.judged = now
    for link in self.links:
      if now - link.last_received > SILENCE and link.process >= 0:
        since = clock(now - link.last_received)
        self.lost(f"process {link.process} on {link.host} has been silent since {since}")
    if self.missing and now - self.began > SILENCE:
      self.lost(f"process {min(self.missing)} has been silent since {clock(now - self.began)}")

  def lost(self, what: str) -> None:
    """Tells the other processes about a loss, and ends this one."""
    if self.code is None:
      what = f"{what}; the same command resumes"
      self.tell(f"gone {what}")
      self.leave(ending.LOST, what)

  def leave(self, code: int, what: str) -> None:
    """Ends this process after an ending that the others know of; called in the watch thread."""
    self.code, self.until = code, time.monotonic() + PATIENCE
    while self.followed() and time.monotonic() < self.until:
      self.listen(POLL)
    ending.end(code, what)

  def announce(self, code: int) -> None:
    """Tells the other processes that this one ends; the first process then waits for them."""
    if self.code is None:
      self.code, self.until = code, time.monotonic() + PATIENCE
      self.tell(f"ends {code}")
    while self.followed() and time.monotonic() < self.until:
      time.sleep(POLL)

  def followed(self) -> bool:
    """Whether this is the first process and others are still running."""
    return bool(self.missing) or any(link.process > FIRST for link in self.links)

  def tell(self, line: str, but: Link | None = None) -> None:
    """Sends a line on all connections, except on `but`."""
    for link in tuple(self.links):
      if link is not but:
        link.send(line)


def clock(ago: float = 0.0) -> str:
  """The time of day `ago` seconds ago."""
  return time.strftime("%H:%M:%S", time.localtime(time.time() - ago))


@contextlib.contextmanager
def together() -> Iterator[None]:
  """A context in which the processes of an initialised `jax.distributed` watch each other.

  Errors from inside are raised again. One that may follow from the end of another process waits
  first, so that the news of that end can arrive and end this process with the right code.
  """
  watch = start()
  try:
    yield
  except (ConfigError, TrainingError):
    raise
  except Exception as error:
    from jax.errors import JaxRuntimeError

    time.sleep(SILENCE + BEAT if isinstance(error, JaxRuntimeError) else 2 * BEAT)
    raise
  watch.tell("done")


def start() -> ProcessWatch:
  """Connects this process to the watch and starts the watch thread."""
  from jax._src import distributed  # JAX has no public way to share a port between processes

  client: Any = distributed.global_state.client
  process = distributed.global_state.process_id
  processes = distributed.global_state.num_processes
  host = str(distributed.global_state.coordinator_address).rpartition(":")[0].strip("[]")
  if process == FIRST:
    server = listening()
    watch = ProcessWatch(processes, server)
    client.key_value_set("kdjax/watch", str(server.getsockname()[1]))
  else:
    port = int(client.blocking_key_value_get("kdjax/watch", int(SILENCE * 1000)))
    watch = ProcessWatch(processes)
    link = Link(socket.create_connection((host, port), SILENCE), FIRST, host)
    link.send(f"hello {process} {socket.gethostname()}")
    watch.add(link)
  ending.before_end.append(watch.announce)
  threading.Thread(target=watch.run, daemon=True).start()
  return watch


def listening() -> socket.socket:
  """A server on a free port, for IPv4 and, where the host has it, IPv6."""
  if socket.has_dualstack_ipv6():
    return socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True)
  return socket.create_server(("", 0))
