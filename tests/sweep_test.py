"""Sweeps: which runs, in which folders; what is done twice, what is stopped, what fails."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from kdjax import sweep
from kdjax.types import ConfigError


def test_a_grid_is_read_as_literals_or_text():
  grid = sweep.parse_grid(
    [
      "algo.teachers=1,2,1",
      "config.graph.kind=cycle,chain",
      "clients=((1,'mlp',{}),),((2,'a,b',{}),)",
    ]
  )
  assert grid == {
    "algo.teachers": [1, 2],
    "graph.kind": ["cycle", "chain"],
    "clients": [((1, "mlp", {}),), ((2, "a,b", {}),)],
  }
  for entry in ("algo.teachers", "=1", "a="):
    with pytest.raises(ConfigError, match="KEY=VALUE,VALUE"):
      sweep.parse_grid([entry])


def test_every_combination_has_every_seed_or_folds_them():
  grid = {"a": [1, 2], "b.c": ["x"]}
  apart = sweep.points(grid, 2, 5, fold=False)
  assert [p.name for p in apart] == [f"a={a},b.c=x,seed={s}" for a in (1, 2) for s in (5, 6)]
  assert apart[0].flags == ("--config.a=1", "--config.b.c=x", "--config.seed=5")
  (one, two) = sweep.points(grid, 2, 5, fold=True)
  assert one.flags[-2:] == ("--config.seed=5", "--config.replicas=2") and two.values["a"] == 2
  (odd,) = sweep.points({"x": ["a/../b c"]}, 1, 0, fold=False)
  assert odd.name == "x=a_.._b_c,seed=0"


def test_a_folder_belongs_to_one_sweep_whose_grid_may_grow(tmp_path):
  sweep.declare(tmp_path, "mhd_digits", {"a": [1]}, [])
  sweep.declare(tmp_path, "mhd_digits", {"a": [2]}, [])
  assert json.loads((tmp_path / "sweep.json").read_text())["grid"] == {"a": [1, 2]}
  for config, grid, flags in (
    ("fedgkt_digits", {"a": [1]}, []),
    ("mhd_digits", {"b": [1]}, []),
    ("mhd_digits", {"a": [1]}, ["--config.steps=3"]),
  ):
    with pytest.raises(ConfigError, match="was begun with"):
      sweep.declare(tmp_path, config, grid, flags)


SHORT = ("--config.steps=20", "--config.replicas=1", "--config.evals.accuracy.every=20")
SHORT += ("--config.compare=()", "--config.save_every=0")


def start(workdir, *arguments):
  command = [sys.executable, "-m", "kdjax", "sweep", "--config=mhd_digits:separate"]
  command += [f"--workdir={workdir}", *arguments]
  return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_runs_are_done_once_and_one_that_fails_does_not_stop_the_rest(tmp_path):
  arguments = ("--grid", "batch=16,0", "--seeds=2", "--first-seed=1", *SHORT)
  process = start(tmp_path, *arguments)
  out, err = process.communicate(timeout=300)
  assert process.returncode == 1, err
  good = [tmp_path / f"batch=16,seed={s}" / "summary.json" for s in (1, 2)]
  assert "| 16 | main | 2 | " in out and all(p.exists() for p in good)
  assert err.count("failed: kdjax: batch = 0: must be at least 1") == 2
  assert "failed: batch=0,seed=1" in err and "1/4" in err
  before = [p.stat().st_mtime_ns for p in good]
  again = start(tmp_path, *arguments)
  again.communicate(timeout=300)
  assert again.returncode == 1
  assert [p.stat().st_mtime_ns for p in good] == before


def test_a_signal_reaches_the_run_which_saves_and_goes_on_with_the_same_command(tmp_path):
  arguments = ("--grid=batch=16", *SHORT[1:], "--config.steps=100000", "--config.log_every=20")
  process = start(tmp_path, *arguments)
  metrics, deadline = tmp_path / "batch=16,seed=0" / "metrics.jsonl", time.time() + 120
  while not (metrics.exists() and metrics.read_text()) and time.time() < deadline:
    time.sleep(0.1)
  os.kill(process.pid, signal.SIGTERM)
  _, err = process.communicate(timeout=60)
  assert process.returncode == 42 and "the same command goes on" in err
  checkpoints = tmp_path / "batch=16,seed=0" / "checkpoints"
  assert [p for p in checkpoints.iterdir() if p.name.isdigit()]
