"""One of several processes is killed, stopped but alive, or fails by itself: all end soon."""

import os
import random
import signal
import time
from pathlib import Path

import pytest
import runs
from campaign import HELD

PROCESSES = 4


def children(pid: int) -> list[int]:
  """The processes that one has started, in order."""
  return [int(x) for x in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def attempt(number, damage, seconds, folder):
  """Damages one process at a random moment: of the start, or of training.

  One that is stopped before it has met the others cannot be told from one that is slow to start:
  they wait for it for five minutes (`main.TOGETHER`).
  """
  draw, workdir = random.Random(number), folder / f"{damage.name}{number}"
  running = runs.start(PROCESSES, "mhd", workdir, "--config.steps=100000")
  who = draw.randrange(PROCESSES)
  try:
    training = number % 3 < 2 or damage == signal.SIGSTOP
    if training:
      assert runs.until(lambda: runs.step(workdir), running)
    assert runs.until(lambda: len(children(running.pid)) == PROCESSES, running)
    time.sleep(draw.uniform(0, 2 if training else 8))
    at = time.monotonic()
    os.kill(children(running.pid)[who], damage)
    code = running.wait(timeout=2 * seconds + 60)
    took = time.monotonic() - at
  finally:
    runs.kill(running)
  log = workdir.with_suffix(".log").read_text()
  print(f"{number}: {damage.name} of process {who}: {code} after {took:.1f} s", flush=True)
  if code != 44 or took > seconds or "Traceback" in log:
    return f"{damage.name} of process {who}: {code} after {took:.1f} s: {log[-800:]}"
  said = f"process {who} on " in log
  return HELD if said or not training else f"nobody said who is gone: {log[-800:]}"


@pytest.mark.parametrize(
  "damage, seconds, few, many", [("SIGKILL", 15, 1, 12), ("SIGSTOP", 120, 0, 4)]
)
def test_one_of_four_is_gone(damage, seconds, few, many, campaign, tmp_path):
  if not campaign.trials(few, many):
    pytest.skip("a stopped process takes a minute to tell from a slow one: with --thorough")
  trial = lambda number: attempt(number, signal.Signals[damage], seconds, tmp_path)
  campaign.run(f"lost_{damage}", campaign.trials(few, many), trial)


def paused(number, folder):
  """Stops one process for 20 s, as a loaded machine may; then the run must go on."""
  draw, workdir = random.Random(number), folder / f"paused{number}"
  running = runs.start(PROCESSES, "mhd", workdir, "--config.steps=100000")
  try:
    assert runs.until(lambda: runs.step(workdir), running)
    child = draw.choice(children(running.pid))
    os.kill(child, signal.SIGSTOP)
    time.sleep(20)
    os.kill(child, signal.SIGCONT)
    before = runs.step(workdir)
    if not runs.until(lambda: runs.step(workdir) > before + 5, running):
      return f"{running.returncode}: {workdir.with_suffix('.log').read_text()[-800:]}"
    running.terminate()
    code = running.wait(timeout=60)
  finally:
    runs.kill(running)
  return HELD if code == 42 else f"then ended with {code}"


def test_a_pause_of_one_of_four_is_no_loss(campaign, tmp_path):
  if not campaign.thorough:
    pytest.skip("half a minute a trial: with --thorough")
  campaign.run("lost_paused", 4, lambda number: paused(number, tmp_path))


ALONE = """
from kdjax.configs import mhd_digits_cycle

def get_config(words=""):
  c = mhd_digits_cycle.get_config(words)
  with c.unlocked():
    c.evals = {"failing:make": dict(every=6)}
  return c
"""
FAILING = """
import jax

def make(experiment):
  asked = []

  def run(state):
    asked.append(1)
    if jax.process_index() == 1 and len(asked) == 2:
      raise MemoryError("not everywhere")
    return [{"found": {"main": 1.0}}]

  return run
"""


def test_an_error_of_one_process_alone_ends_all(tmp_path):
  """After a save: what was written is still there, and nobody waits for who has failed."""
  (tmp_path / "alone.py").write_text(ALONE)
  (tmp_path / "failing.py").write_text(FAILING)
  mine = (f"--config={tmp_path}/alone.py", "--config.steps=100000")
  without = [x for x in runs.COMMON if "evals" not in x]
  running = runs.start_line(2, [*mine, *runs.FOUR, *without], tmp_path / "run")
  try:
    code = running.wait(timeout=120)
  finally:
    runs.kill(running)
  log = (tmp_path / "run.log").read_text()
  assert code == 1, log
  assert "failing.py, line" in log and "process 1 ended with exit code 1" in log
  assert runs.saved(tmp_path / "run") == runs.SAVE_EVERY


def test_all_processes_end_where_all_clients_are_silent(tmp_path):
  more = ("--config.steps=1000000", "--config.normalise.std=(1e-39,)", "--config.log_every=5")
  running = runs.start(2, "mhd", tmp_path / "run", "--config.faults.client=freeze", *more)
  try:
    code = running.wait(timeout=120)
  finally:
    runs.kill(running)
  log = (tmp_path / "run.log").read_text()
  line = "client 0 had a loss, gradient or statistic that was not finite at step 1, the first of 4"
  assert code == 1 and line in log, log
