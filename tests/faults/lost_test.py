"""One of four processes is killed, or stopped but alive: all end soon, the launcher with 44."""

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
