"""The launcher of several processes on one machine, with children that behave badly."""

import importlib.util
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

PATH = Path(__file__).parent.parent / "launch" / "local.py"
STUBBORN = (
  "import signal, time; signal.signal(15, signal.SIG_IGN); signal.signal(2, signal.SIG_IGN)"
)
IGNORES = f"{STUBBORN}; print(flush=True); time.sleep(100)"
STOPS = f"{STUBBORN}; print(flush=True); import os; os.kill(os.getpid(), signal.SIGSTOP)"


@pytest.fixture
def local():
  spec = importlib.util.spec_from_file_location("local", PATH)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


@pytest.fixture
def children():
  """Starts programs, and waits for a line of each that sleeps."""
  started = []

  def start(*programs):
    for program in programs:
      pipe = subprocess.PIPE
      started.append(subprocess.Popen([sys.executable, "-c", program], stdout=pipe))
      if "print" in program:
        started[-1].stdout.readline()
    return list(started)

  yield start
  for child in started:
    child.kill()
    child.wait()
    child.stdout.close()


def test_who_does_not_end_is_killed(local, children, monkeypatch, capfd):
  monkeypatch.setattr(local, "GRACE", 0.5)
  codes = local.wait(children(IGNORES, STOPS, "exit(44)"), [])
  assert codes == [-9, -9, 44] and local.verdict(codes) == 44
  assert capfd.readouterr().err == "process 2 ended with 44: ending the others\n"


def test_the_third_signal_kills(local, children):
  heard = [signal.SIGTERM]
  threading.Timer(0.5, lambda: heard.extend([signal.SIGINT, signal.SIGTERM])).start()
  began = time.monotonic()
  assert local.wait(children(IGNORES, IGNORES), heard) == [-9, -9]
  assert 0.4 < time.monotonic() - began < 20


def test_a_child_that_had_no_time_to_listen_was_stopped(local, children):
  child = "print(flush=True); import time; time.sleep(100)"
  codes = local.wait(children(child, child), [signal.SIGTERM])
  assert codes == [42, 42]


@pytest.mark.parametrize(
  "codes, said",
  [
    ([0, 0], 0),
    ([42, 42], 42),
    ([42, 0], 42),
    ([44, -9, 44], 44),  # killed: the others say so
    ([-9, 42], 44),
    ([44, 1, 44], 1),  # a fault of its own
    ([2, 2], 2),
    ([44, 43], 43),
  ],
)
def test_one_exit_code_says_what_happened(local, codes, said):
  assert local.verdict(codes) == said
