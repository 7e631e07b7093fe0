"""Several processes: each notices when another one is gone, and ends.

A collective waits for ever for a process that died; JAX's own heartbeat takes 100 seconds and then
aborts. Here every process keeps a TCP connection to the first one, in a thread of its own. The
kernel closes it the moment a process dies; a process that is stopped falls silent, and so does a
host without power. Heartbeats in files of the run's folder would need no port, but a slow file
system would look like a loss, and a death would be seen by its age alone.

A false alarm is worse than a late one: the thread goes on while XLA compiles, and a minute's
silence is more than a loaded machine keeps.

JAX's coordination service lives in the first process, and whoever loses it is aborted. So the first
one ends last.
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

BEAT = 2.0  # seconds between two lines
SILENCE = 60.0  # seconds after which a process is gone
PATIENCE = 3.0  # seconds that the first one, about to end, gives the others to end before it
POLL = 0.02  # seconds between two looks whether they have
FIRST = 0


class Link:
  """The connection to another process."""

  def __init__(self, connection: socket.socket, process: int = -1, host: str = "") -> None:
    """Nothing was received; `process` is -1 until it says who it is."""
    self.connection, self.process, self.host = connection, process, host
    self.received, self.heard = b"", time.monotonic()
    self.over = False  # it said that it is done: its connection may close

  def send(self, line: str) -> None:
    """Sends a line; who cannot be reached any more is found when its silence is."""
    with contextlib.suppress(OSError):
      self.connection.sendall(line.encode() + b"\n")

  def lines(self) -> list[str] | None:
    """The whole lines that have come; None where the connection has closed."""
    try:
      got = self.connection.recv(4096)
    except OSError:
      got = b""
    if not got:
      return None
    self.heard = time.monotonic()
    *whole, self.received = (self.received + got).split(b"\n")
    return [line.decode(errors="replace") for line in whole]


class ProcessWatch:
  """What one process knows of the others: the first one of all, the others of the first."""

  def __init__(self, processes: int, server: socket.socket | None = None) -> None:
    """Nobody is connected; the first process has a `server` at which the others come."""
    self.missing = set(range(1, processes)) if server else set()
    self.code: int | None = None  # with which this process is about to end,
    self.until = 0.0  # and when, where the others have not ended
    self.began = self.judged = time.monotonic()
    self.links: list[Link] = []
    self.selector = selectors.DefaultSelector()
    if server:
      come = lambda: self.add(Link(server.accept()[0]))
      self.selector.register(server, selectors.EVENT_READ, come)

  def add(self, link: Link) -> None:
    """Listens to one more."""
    self.links.append(link)
    self.selector.register(link.connection, selectors.EVENT_READ, lambda: self.receive(link))

  def run(self) -> None:
    """Speaks and listens until the process ends."""
    spoken = 0.0
    while True:
      self.listen(BEAT / 2)
      now = time.monotonic()
      if now - spoken >= BEAT:
        spoken = now
        self.tell("beat")
      self.judge(now)

  def listen(self, seconds: float) -> None:
    """Takes what comes, or has come within so long."""
    for key, _ in self.selector.select(seconds):
      key.data()

  def receive(self, link: Link) -> None:
    """Takes what has come on a connection, its end included."""
    lines = link.lines()
    for line in lines or ():
      self.obey(link, *line.split(" "))
    if lines is None or (lines and link.process < 0):  # a stranger has nothing to say
      self.selector.unregister(link.connection)
      self.links.remove(link)
      link.connection.close()
      if not link.over and link.process >= 0:
        self.lost(f"process {link.process} on {link.host} is gone since {clock()}")

  def obey(self, link: Link, word: str, *rest: str) -> None:
    """What a line says: hello PROCESS HOST; done; ends CODE [PROCESS]; gone WHAT; beat."""
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
      code, who = rest[0], rest[1] if len(rest) > 1 else link.process
      self.tell(f"ends {code} {who}", but=link)
      self.leave(int(code), f"process {who} ended with exit code {code}")
    elif word == "gone":
      self.leave(ending.LOST, " ".join(rest))

  def judge(self, now: float) -> None:
    """Ends where a process has been silent for too long, or never came.

    Who was stopped for long itself, with all the others perhaps (Ctrl-Z), starts to listen anew.
    """
    if now - self.judged > SILENCE / 2:
      self.began = now
      for link in self.links:
        link.heard = now
    self.judged = now
    for link in self.links:
      if now - link.heard > SILENCE and link.process >= 0:
        since = clock(now - link.heard)
        self.lost(f"process {link.process} on {link.host} is silent since {since}")
    if self.missing and now - self.began > SILENCE:
      self.lost(f"process {min(self.missing)} is silent since {clock(now - self.began)}")

  def lost(self, what: str) -> None:
    """Tells the others, and ends."""
    if self.code is None:
      what = f"{what}; the same command resumes"
      self.tell(f"gone {what}")
      self.leave(ending.LOST, what)

  def leave(self, code: int, what: str) -> None:
    """Ends this process, in whose thread this runs, because of an end of which the others know."""
    self.code, self.until = code, time.monotonic() + PATIENCE
    while self.followed() and time.monotonic() < self.until:
      self.listen(POLL)
    ending.end(code, what)

  def announce(self, code: int) -> None:
    """Tells the others, who do not know yet, that this process ends; the first then awaits them."""
    if self.code is None:
      self.code, self.until = code, time.monotonic() + PATIENCE
      self.tell(f"ends {code}")
    while self.followed() and time.monotonic() < self.until:
      time.sleep(POLL)

  def followed(self) -> bool:
    """Whether this is the first process, and others are still there."""
    return bool(self.missing) or any(link.process > FIRST for link in self.links)

  def tell(self, line: str, but: Link | None = None) -> None:
    """Sends a line to all who are connected."""
    for link in tuple(self.links):
      if link is not but:
        link.send(line)


def clock(ago: float = 0.0) -> str:
  """The time of day, some seconds ago."""
  return time.strftime("%H:%M:%S", time.localtime(time.time() - ago))


@contextlib.contextmanager
def together() -> Iterator[None]:
  """Inside, the processes of an initialised `jax.distributed` watch over each other.

  Raises what is raised inside, but an error that comes of another's end waits for the news of it.
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
  """Connects this process, and has a thread watch."""
  from jax._src import distributed  # JAX has no public way to tell the others a port

  client: Any = distributed.global_state.client
  process, processes = distributed.global_state.process_id, distributed.global_state.num_processes
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
  """A server on a free port, of both kinds of addresses where there are both."""
  if socket.has_dualstack_ipv6():
    return socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True)
  return socket.create_server(("", 0))
