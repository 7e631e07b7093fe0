"""What a process concludes from what the others say, and from what they do not."""

import contextlib
import socket
import threading
import time

import pytest

from kdjax import ending
from kdjax.core import watch


class EndedError(BaseException):
  """What takes the place of the end of this process."""


@pytest.fixture
def first(monkeypatch):
  """The first of three processes: (its address, a function that waits for its end).

  The function's `watch` is what it watches with.
  """
  ends, server = [], watch.listening()

  def end(code, line):
    ends.append((code, line))
    raise EndedError

  def run():
    with contextlib.suppress(EndedError):
      one.run()

  monkeypatch.setattr(ending, "end", end)
  monkeypatch.setattr(watch, "BEAT", 0.05)
  monkeypatch.setattr(watch, "SILENCE", 1.0)
  monkeypatch.setattr(watch, "PATIENCE", 0.1)
  one = watch.ProcessWatch(3, server)
  thread = threading.Thread(target=run, daemon=True)
  thread.start()

  def wait(seconds=10.0):
    thread.join(seconds)
    return ends[0] if ends else None

  wait.watch = one
  yield server.getsockname()[1], wait
  one.tell = lambda line: end(0, line)  # ends a thread that goes on
  thread.join(5)
  one.selector.close()
  server.close()
  for link in one.links:
    link.connection.close()


class Peer:
  """Another process, as far as the first one can tell."""

  def __init__(self, port, number):
    self.socket = socket.create_connection(("localhost", port))
    self.socket.settimeout(5)
    self.say(f"hello {number} host{number}")

  def say(self, line):
    self.socket.sendall(line.encode() + b"\n")

  def hears(self, word):
    text = ""
    while word not in text:
      got = self.socket.recv(4096).decode()
      assert got, text
      text += got
    return next(line for line in text.splitlines() if line.startswith(word))


def beating(peers, seconds):
  """Keeps some peers alive for a while."""
  until = time.monotonic() + seconds
  while time.monotonic() < until:
    for peer in peers:
      peer.say("beat")
    time.sleep(0.1)


def test_a_closed_connection_is_a_loss_that_all_hear_of(first):
  port, wait = first
  one, two = Peer(port, 1), Peer(port, 2)
  two.hears("beat")
  one.socket.close()
  code, line = wait()
  assert code == 44 and line.startswith("process 1 on host1 has been gone since ")
  assert line.endswith("the same command resumes")
  assert two.hears("gone") == f"gone {line}"
  two.socket.close()


def test_silence_is_a_loss_but_only_for_long(first):
  port, wait = first
  one, two = Peer(port, 1), Peer(port, 2)
  beating((one, two), 2.0)
  assert wait(0) is None
  code, line = wait()
  assert code == 44 and "has been silent since" in line
  one.socket.close()
  two.socket.close()


def test_who_never_comes_is_a_loss(first):
  port, wait = first
  one = Peer(port, 1)
  beating((one,), 0.9)
  assert "process 2 has been silent" in wait()[1]
  one.socket.close()


def test_the_end_of_who_is_done_is_none(first):
  port, wait = first
  one, two = Peer(port, 1), Peer(port, 2)
  one.say("done")
  one.socket.close()
  beating((two,), 1.5)
  assert wait(0) is None
  two.say("done")
  two.socket.close()


def test_an_exit_code_spreads(first):
  port, wait = first
  one, two = Peer(port, 1), Peer(port, 2)
  two.hears("beat")
  one.say("ends 2")
  assert wait() == (2, "process 1 ended with exit code 2")
  assert two.hears("ends") == "ends 2 1"
  one.socket.close()
  two.socket.close()


def test_the_first_ends_last(first, monkeypatch):
  monkeypatch.setattr(watch, "PATIENCE", 60.0)
  port, wait = first
  one, two = Peer(port, 1), Peer(port, 2)
  two.hears("beat")
  one.say("ends 42")
  assert two.hears("ends") == "ends 42 1"
  one.socket.close()
  signalled = threading.Thread(target=wait.watch.announce, args=(42,))
  signalled.start()
  assert wait(0.5) is None and signalled.is_alive()  # two is still there
  two.socket.close()
  signalled.join(10)
  assert not signalled.is_alive()
  assert wait() == (42, "process 1 ended with exit code 42")


def test_a_signal_to_the_first_ends_it_last(first, monkeypatch):
  monkeypatch.setattr(watch, "PATIENCE", 60.0)
  port, wait = first
  one = Peer(port, 1)
  one.hears("beat")
  told = threading.Thread(target=wait.watch.announce, args=(42,))
  told.start()
  assert one.hears("ends") == "ends 42"
  two = Peer(port, 2)  # it had met JAX's service, but not the watch
  assert two.hears("ends") == "ends 42"
  one.say("ends 42")  # the same signal
  one.socket.close()
  told.join(0.5)
  assert told.is_alive() and wait(0) is None
  two.socket.close()
  told.join(10)
  assert not told.is_alive() and wait(0) is None  # its own end, with 42, comes next


def test_an_end_does_not_wait_for_ever(first):
  port, wait = first
  one = Peer(port, 1)
  one.hears("beat")
  wait.watch.announce(42)  # process 2 never comes, nor does 1 go
  one.socket.close()


def test_a_stranger_has_no_say(first):
  port, wait = first
  one, two = Peer(port, 1), Peer(port, 2)
  for words in (b"gone with the wind\n", b"hello 7 host7\n", b"hello\n", b"\xff\xfe\n"):
    with socket.create_connection(("localhost", port)) as stranger:
      stranger.sendall(words)
  beating((one, two), 0.5)
  assert wait(0) is None
  one.socket.close()
  two.socket.close()


def test_who_was_stopped_itself_accuses_nobody(monkeypatch):
  ends = []
  monkeypatch.setattr(ending, "end", lambda code, line: ends.append(line))
  ours, theirs = socket.socketpair()
  with ours, theirs:
    one = watch.ProcessWatch(2)
    one.add(watch.Link(ours, 0, "host0"))
    start = one.judged
    for now in (1, 500, 520, 540, 559):  # stopped between the first two
      one.judge(start + now)
      assert not ends
    one.judge(start + 561)
    assert len(ends) == 1 and ends[0].startswith("process 0 on host0 has been silent")
    one.selector.close()


def test_a_line_may_come_in_parts(first):
  port, wait = first
  one, two = socket.create_connection(("localhost", port)), Peer(port, 2)
  one.sendall(b"hel")
  time.sleep(0.3)
  one.sendall(b"lo 1 host1\n")
  two.hears("beat")
  one.close()
  assert wait()[1].startswith("process 1 on host1 has been gone")
  two.socket.close()
