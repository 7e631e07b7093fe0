"""SIGKILL at random moments: the same command goes on, ends with the same bits, and loses little.

What is lost: an asynchronous save runs while the next interval trains, and ends before the next
save begins. So a kill loses at most two intervals: one, and what was trained while the newest
checkpoint was being written.
"""

import random
import time

import pytest
import runs
from campaign import HELD

KILLS = 5  # in a row, in the long form


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
  """(processes, method) -> the folder of a run to which nothing happened; made once."""
  made = {}

  def folder(processes, method):
    if (processes, method) not in made:
      workdir = tmp_path_factory.mktemp("undisturbed") / method
      running = runs.start(processes, method, workdir)
      try:
        assert running.wait(timeout=600) == 0, workdir.with_suffix(".log").read_text()
      finally:
        runs.kill(running)
      made[processes, method] = workdir
    return made[processes, method]

  return folder


def attempt(number, processes, kills, undisturbed, folder):
  """A chain of kills, one in five while the run starts, the others while it trains."""
  draw = random.Random(number)
  method = list(runs.METHODS)[number % len(runs.METHODS)]
  workdir, lost = folder / str(number), []
  for _ in range(kills):
    before = runs.step(workdir)
    running = runs.start(processes, method, workdir)
    try:
      if draw.random() < 0.2:
        time.sleep(draw.uniform(0, 4))
      elif not runs.until(lambda b=before: runs.step(workdir) not in (b, 0), running):
        return f"ended with {running.returncode} before kill {len(lost) + 1} ({lost} lost)"
      time.sleep(draw.uniform(0, 1.0))
      if running.poll() is not None:
        return f"ended with {running.returncode} before kill {len(lost) + 1} ({lost} lost)"
    finally:
      runs.kill(running)
    lost.append(runs.step(workdir) - runs.saved(workdir))
  running = runs.start(processes, method, workdir)
  try:
    if (code := running.wait(timeout=600)) != 0:
      return f"ended with {code}"
  finally:
    runs.kill(running)
  print(f"{number}: {method}, {processes} processes, batches lost at each kill: {lost}", flush=True)
  if max(lost) > 2 * runs.SAVE_EVERY:
    return f"lost {max(lost)} batches"
  return runs.difference(workdir, undisturbed(processes, method)) or HELD


@pytest.mark.parametrize("processes, few, many", [(1, 1, 20), (4, 0, 6)])
def test_killed_at_any_moment_a_run_ends_with_the_same_bits(
  processes, few, many, campaign, undisturbed, tmp_path
):
  """100 kills of one process, 30 of four, in the long form."""
  if not campaign.trials(few, many):
    pytest.skip("four processes start too slowly: with --thorough")
  kills = KILLS if campaign.thorough else 1
  trial = lambda number: attempt(number, processes, kills, undisturbed, tmp_path)
  campaign.run(f"kills_{processes}", campaign.trials(few, many), trial)
