"""A signal's way from the interpreter to the end, in a process of its own."""

import signal
import subprocess
import sys
import time

import pytest

IDLE = "from kdjax import ending; ending.listen(); print(flush=True); import time; time.sleep(60)"
CALLED = """
import ctypes, time
from kdjax import ending
ending.listen()
print(flush=True)
while True: ctypes.CDLL(None).sleep(60)  # the main thread is not in Python
"""
ASKS = """
import time
from kdjax import ending
ending.GRACE, ending.SAME = {grace}, 0.3
ending.listen()
ending.asked()
print(flush=True)
while not ({told} and ending.asked()):
  time.sleep(0.01)
time.sleep({saves})
print("saved", flush=True)
raise SystemExit(42)
"""
HANDLES = """
import signal, subprocess, time
from kdjax import ending
ending.listen()
ending.asked()
signal.signal(signal.SIGCHLD, lambda number, frame: None)
subprocess.run(["true"])
time.sleep(0.5)
print("alive", ending.asked(), flush=True)
"""
FORKS = """
import os, signal, time
from kdjax import ending
ending.listen()
child = os.fork()
if not child:
  time.sleep(60)
time.sleep(0.5)  # it starts
os.kill(child, signal.SIGTERM)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
time.sleep(0.5)  # it is nobody else's signal
print("alive", flush=True)
"""


def start(program):
  pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
  running = subprocess.Popen([sys.executable, "-c", program], **pipes)
  running.stdout.readline()
  return running


def ends(running):
  out, err = running.communicate(timeout=30)
  return running.returncode, out, err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("program", [IDLE, CALLED], ids=["in Python", "in C"])
def test_with_nothing_to_save_it_ends_at_once(program, number):
  running = start(program)
  running.send_signal(number)
  code, _, err = ends(running)
  assert code == 42 and err == (
    "kdjax: stopped before there was anything to save; the same command starts over\n"
  )


def test_who_asks_is_told_and_has_time_to_save():
  running = start(ASKS.format(grace=0.5, told=True, saves=1.5))
  running.send_signal(signal.SIGTERM)
  running.send_signal(signal.SIGTERM)  # a launcher and a terminal: one request
  code, out, err = ends(running)
  assert (code, out) == (42, "saved\n") and "once more to end at once" in err


def test_who_does_not_ask_again_ends_without_saving():
  running = start(ASKS.format(grace=0.5, told=False, saves=0))
  running.send_signal(signal.SIGINT)
  code, out, err = ends(running)
  assert (code, out) == (42, "") and "this step takes more than 0.5 s" in err


def test_a_second_signal_ends_at_once():
  running = start(ASKS.format(grace=60, told=True, saves=50))
  running.send_signal(signal.SIGTERM)
  time.sleep(1)
  running.send_signal(signal.SIGTERM)
  code, out, err = ends(running)
  assert (code, out) == (42, "") and "ended at once" in err


def test_it_ends_though_nobody_reads_what_it_says():
  running = start(IDLE)
  running.stderr.close()
  running.stdout.close()
  running.send_signal(signal.SIGTERM)
  assert running.wait(timeout=30) == 42


def test_a_forked_child_has_signals_of_its_own():
  running = subprocess.run(
    [sys.executable, "-c", FORKS], capture_output=True, text=True, timeout=30
  )
  assert (running.returncode, running.stdout) == (0, "alive\n"), running.stderr


def test_nothing_that_takes_time_is_imported_before_signals_are_heard():
  program = "import sys; import kdjax.ending; print(*sys.modules)"
  done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
  assert not {"absl", "numpy", "jax", "typing_extensions"} & set(done.stdout.split())


def test_a_signal_that_others_handle_is_none():
  done = subprocess.run([sys.executable, "-c", HANDLES], capture_output=True, text=True, timeout=60)
  assert (done.returncode, done.stdout, done.stderr) == (0, "alive False\n", "")
