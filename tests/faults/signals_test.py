"""SIGTERM and SIGINT at any moment: 42 within 30 s, saved where there was anything to save."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import runs
from campaign import HELD

from kdjax.core import watch

SECONDS = 30.0
ENDLESS = "--config.steps=100000"
PEER = ("--coordinator=localhost:{port}", "--processes=2", "--process={process}")


def listens(pid: int) -> bool:
  """Whether a process catches SIGTERM: the first thing that the command line does."""
  status = Path(f"/proc/{pid}/status")
  if not status.exists():
    return False
  caught = next(x for x in status.read_text().splitlines() if x.startswith("SigCgt"))
  return bool(int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1)


def begin(kind, workdir, draw):
  """Starts a run, and returns it at a random moment of its kind."""
  if kind == "waiting for a peer":
    process = draw.randrange(2)
    more = [x.format(port=draw.randrange(20_000, 60_000), process=process) for x in PEER]
    running, delay = runs.start(1, "mhd", workdir, *more), draw.uniform(1, 8)
  elif kind == "ending":
    running = runs.start(1, "mhd", workdir, "--config.steps=6")
    assert runs.until((workdir / "summary.json").exists, running)
    return running, draw.uniform(0, 1)
  else:
    processes = 2 if kind == "two processes" else 1
    running, delay = runs.start(processes, "mhd", workdir, ENDLESS), draw.uniform(0, 8)
    if draw.random() < 0.4:  # training, evaluating, saving
      assert runs.until(lambda: runs.step(workdir), running)
      delay = draw.uniform(0, 2)
  assert runs.until(lambda: listens(running.pid), running)
  return running, delay


KINDS = ("one process", "two processes", "one process", "waiting for a peer", "ending")


def attempt(number, folder):
  """One signal; what is wrong with the end, or `HELD`."""
  draw, kind = random.Random(number), KINDS[number % len(KINDS)]
  workdir, one = folder / str(number), draw.choice((signal.SIGTERM, signal.SIGINT))
  running, delay = begin(kind, workdir, draw)
  try:
    time.sleep(delay)
    sent = time.monotonic()
    running.send_signal(one)
    code = running.wait(timeout=2 * SECONDS)
    took = time.monotonic() - sent
  except subprocess.TimeoutExpired:
    return f"{one.name} {delay:.1f} s into {kind}: swallowed"
  finally:
    runs.kill(running)
  log = workdir.with_suffix(".log").read_text()
  print(f"{number}: {one.name} {delay:.1f} s into {kind}: {code} after {took:.1f} s", flush=True)
  what = f"{one.name} {delay:.1f} s into {kind}: {code} after {took:.1f} s: {log[-500:]}"
  if code not in ((0, 42) if kind == "ending" else (42,)) or took > SECONDS or "Traceback" in log:
    return what
  if "this resumes it" in log and runs.saved(workdir) != runs.step(workdir):
    return f"{what}: saved {runs.saved(workdir)}, logged {runs.step(workdir)}"
  return HELD


def test_a_signal_at_any_moment_stops_a_run(campaign, tmp_path):
  campaign.run("signals", campaign.trials(3, 100), lambda number: attempt(number, tmp_path))


@pytest.mark.parametrize("words", [("compare", "."), ("configs",)])
def test_a_signal_ends_a_command_that_has_nothing_to_save(words, tmp_path):
  line = [sys.executable, "-m", "kdjax", *words]
  running = subprocess.Popen(line, cwd=runs.ROOT, stderr=subprocess.PIPE, text=True)
  assert runs.until(lambda: listens(running.pid), running)
  running.send_signal(signal.SIGINT)
  _, err = running.communicate(timeout=SECONDS)
  assert running.returncode == 42 and "Traceback" not in err


WAITS = """
import sys, time
from kdjax import ending
ending.listen()
import jax
from kdjax.core import watch
jax.config.update("jax_enable_preemption_service", False)  # as main.join does
jax.distributed.initialize(sys.argv[1], 2, int(sys.argv[2]))
with watch.together():
  print("together", flush=True)
  time.sleep(60)
"""


def test_a_slow_process_is_not_aborted_by_the_end_of_the_first():
  address = f"localhost:{random.Random().randrange(20_000, 60_000)}"
  line = [sys.executable, "-c", WAITS, address]
  start = lambda i: subprocess.Popen([*line, str(i)], cwd=runs.ROOT, stdout=subprocess.PIPE)
  with start(0) as first, start(1) as slow:
    try:
      assert [first.stdout.readline(), slow.stdout.readline()] == [b"together\n"] * 2
      slow.send_signal(signal.SIGSTOP)
      os.waitid(os.P_PID, slow.pid, os.WSTOPPED)  # until then it may still read and end
      ended = time.monotonic()
      first.terminate()
      time.sleep(0.5)
      waits = first.poll() is None
      assert waits or time.monotonic() - ended > watch.PATIENCE  # a machine that stalls
      slow.send_signal(signal.SIGCONT)
      assert [first.wait(SECONDS), slow.wait(SECONDS)] == [42, 42]
    finally:
      first.kill()
      slow.kill()
