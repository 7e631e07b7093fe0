"""Sweeps: which runs, in which folders; what is done twice, what is stopped, what fails."""

import json
import os
import signal
import subprocess
import sys
import time

import jax
import pytest
from helpers import FIVE_SMALL

from kdjax.ending import STOPPED
from kdjax.sweep import cli, grid
from kdjax.training import lock
from kdjax.types import ConfigError

QUICK = ("--config.steps=20", "--config.replicas=1", "--config.evals.accuracy.every=20")
QUICK += ("--config.compare=()", "--config.save_every=0", f"--config.clients={FIVE_SMALL!r}")


def asked(workdir, *words, config="mhd_digits:separate"):
  """The sweep of a command line."""
  line = [f"--config={config}", f"--workdir={workdir}", *words]
  return cli._asked(*cli._parser().parse_known_args(line))


def names(sweep):
  return [point.folder.name for point in grid.points(sweep)]


@pytest.mark.parametrize(
  "text, key, values",
  [
    ("algo.teachers=1,2", "algo.teachers", [1, 2]),
    ("graph.kind=cycle,chain", "graph.kind", ["cycle", "chain"]),
    ("optim.lr=0.1,1e-2", "optim.lr", [0.1, 0.01]),
    ("clients=((1,'a,b',{}),),((2,'c',{}),)", "clients", [((1, "a,b", {}),), ((2, "c", {}),)]),
    ("source=npz:a=b", "source", ["npz:a=b"]),
  ],
)
def test_a_grid_is_read_as_literals_or_text(text, key, values):
  assert grid.parse_grid(text) == (key, values)


@pytest.mark.parametrize("text", ["algo.teachers", "=1", "a="])
def test_a_grid_without_key_or_values_is_refused(text):
  with pytest.raises(ConfigError, match="write KEY=VALUE,VALUE"):
    grid.parse_grid(text)


def test_a_second_sweep_in_the_same_folder_is_turned_away(tmp_path):
  """It called the first one's running run failed, and both wrote sweep.json."""
  with lock.held(tmp_path):
    match = f"workdir = .*: is being written by process {os.getpid()} on .*lock is its lock"
    with pytest.raises(ConfigError, match=match):
      cli.run(asked(tmp_path, *QUICK))
  assert not list(tmp_path.iterdir())


def test_a_sweep_leaves_the_devices_to_its_runs(tmp_path, monkeypatch):
  """Its lock asked JAX for them: the runs of a TPU had none, and those of a GPU little memory."""
  for name in ("devices", "process_count", "process_index"):
    monkeypatch.setattr(jax, name, lambda: pytest.fail("takes the devices"))
  monkeypatch.setattr(cli, "run_point", lambda *_: STOPPED)
  assert cli.run(asked(tmp_path, *QUICK)) == STOPPED
  assert [path.name for path in tmp_path.iterdir()] == ["sweep.json"]


def test_every_combination_has_every_seed_from_the_config_s_on(tmp_path):
  sweep = asked(
    tmp_path,
    "--grid",
    "skew=0.0,1.5",
    "--grid=batch=8",
    "--seeds=2",
    "--config.seed=5",
    "--config.replicas=1",
  )
  assert names(sweep) == [f"batch=8_skew={s}_seed={n}" for s in (0.0, 1.5) for n in (5, 6)]
  point = grid.points(sweep)[3]
  assert (point.config["seed"], point.config["skew"], point.config["batch"]) == (6, 1.5, 8)


def test_folded_seeds_are_replicas_of_one_run(tmp_path):
  sweep = asked(tmp_path, "--grid", "batch=8,16", "--seeds=3", "--fold")
  assert names(sweep) == ["batch=8_replicas=3", "batch=16_replicas=3"]
  assert [point.config["replicas"] for point in grid.points(sweep)] == [3, 3]


def test_points_of_one_config_are_one_run(tmp_path):
  assert names(asked(tmp_path, "--grid", "skew=1.0,1,1.00")) == ["skew=1.0"]


@pytest.mark.parametrize(
  "words, said",
  [
    (["--grid=algo.teecher=1"], "^algo.teecher = '1': no such key; did you mean teachers.$"),
    (["--grid=teachers=1,2"], "^teachers = '1': no such key; did you mean algo.teachers.$"),
    (["--grid=every=1"], "did you mean evals.accuracy.every or graph.every.$"),
    (["--grid=batch=0"], "batch = 0: must be at least 1"),
    (["--grid=seed=1,2", "--seeds=2"], "--seeds sets it"),
    (["--steps=3"], "runs take --config.KEY=VALUE"),
    (["--fold"], "needs --seeds=N"),
    (["--seeds=2"], "--seeds = 2: with replicas = 3 the runs' seeds would overlap: --fold"),
  ],
)
def test_what_cannot_work_is_refused_before_any_run(tmp_path, words, said):
  with pytest.raises(ConfigError, match=said):
    cli.sweep_cli(["--config=mhd_digits", f"--workdir={tmp_path / 'new'}", *words])
  assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_the_folder_of_a_run_is_refused_and_left_alone(tmp_path, more):
  (tmp_path / "config.json").write_text("{}")
  with pytest.raises(ConfigError, match="^--workdir = .*: holds a run: a sweep needs a"):
    cli.sweep_cli(["--config=mhd_digits", f"--workdir={tmp_path}", "--seeds=1", "--fold", *more])
  assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_a_name_that_no_file_system_takes_is_shortened_by_a_hash():
  odd, other = grid.run_name({"x": "a/b"}), grid.run_name({"x": "a-b"})
  assert odd.startswith("x=a-b-") and other == "x=a-b" and "/" not in odd
  assert len(grid.run_name({"x": "y" * 500})) < 120


def test_a_folder_belongs_to_one_sweep_which_may_grow(tmp_path):
  first = asked(tmp_path, "--grid", "batch=8,16", "--seeds=2", "--config.log_every=10")
  assert grid.declare(first) == {}
  grid.note_failed(first, {"batch=8_seed=0": {"code": 1, "last": "x"}})
  more = asked(tmp_path, "--grid", "batch=32,16,8", "--seeds=3")
  assert grid.declare(more) == {"batch=8_seed=0": {"code": 1, "last": "x"}}
  assert json.loads((tmp_path / "sweep.json").read_text())["grid"] == {"batch": [32, 16, 8]}


@pytest.mark.parametrize(
  "words, key",
  [
    (["--grid", "batch=8", "--seeds=2"], "--grid batch"),
    (["--grid", "batch=8,16", "--grid", "skew=0.0", "--seeds=2"], "--grid skew"),
    (["--grid", "batch=8,16", "--seeds=1"], "--seeds"),
    (["--grid", "batch=8,16", "--seeds=2", "--fold"], "--fold"),
    (["--grid", "batch=8,16", "--seeds=2", "--config.steps=3"], "steps"),
  ],
)
def test_another_sweep_in_a_folder_is_refused_with_what_differs(tmp_path, words, key):
  grid.declare(asked(tmp_path, "--grid", "batch=8,16", "--seeds=2"))
  with pytest.raises(ConfigError, match="was begun with") as refused:
    grid.declare(asked(tmp_path, *words))
  assert refused.value.key == key


def test_the_bar_counts_steps_of_runs_and_baselines(tmp_path):
  sweep = asked(tmp_path, "--config.steps=100", config="mhd_digits")
  (point,) = grid.points(sweep)
  assert len(point.config["compare"]) == 2 and cli.work(point) == 300
  (point.folder / "fedavg").mkdir(parents=True)
  (point.folder / "metrics.jsonl").write_text('{"step": 100}\n')
  (point.folder / "fedavg" / "metrics.jsonl").write_text('{"step": 10}\n{"step": 40}\n{"st')
  assert cli.steps_done(point) == 140


def line(workdir, *arguments):
  return ["--config=mhd_digits:separate", f"--workdir={workdir}", *QUICK, *arguments]


def start(workdir, *arguments):
  command = [sys.executable, "-m", "kdjax", "sweep", *line(workdir, *arguments)]
  return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_runs_are_done_once_and_one_that_fails_does_not_stop_the_rest(tmp_path, capsys):
  # Images divided by 1e-39, which is 0 in float32: no client can take a step.
  arguments = line(tmp_path, "--grid", "normalise.std=(1e-39,),(0.5,)", "--seeds=1")
  code = cli.sweep_cli(arguments)
  out, err = capsys.readouterr()
  assert code == 1, err
  good = sorted(tmp_path.glob("normalise.std=-0.5-_seed=*/summary.json"))
  bad = sorted(p.name for p in tmp_path.glob("normalise.std=-1e-39-_seed=*"))
  assert len(good) == len(bad) == 1
  assert "separate" in out and "one seed each, no spread" in out
  assert f"failed (1): {bad[0]}: kdjax: no client's loss is finite at step" in err
  assert sorted(json.loads((tmp_path / "sweep.json").read_text())["failed"]) == bad
  before = [path.stat().st_mtime_ns for path in good]
  assert cli.sweep_cli(arguments) == 1 and [path.stat().st_mtime_ns for path in good] == before


def test_a_signal_reaches_the_run_which_saves_and_the_same_command_goes_on(tmp_path):
  process = start(tmp_path, "--grid=batch=16", "--config.steps=100000", "--config.log_every=20")
  folder, deadline = tmp_path / "batch=16", time.time() + 120
  metrics = folder / "metrics.jsonl"
  while not (metrics.exists() and metrics.read_text()) and time.time() < deadline:
    time.sleep(0.1)
  os.kill(process.pid, signal.SIGTERM)
  _, err = process.communicate(timeout=60)
  assert process.returncode == 42 and "the same command goes on" in err
  assert [path for path in (folder / "checkpoints").iterdir() if path.name.isdigit()]
  assert "Stopped; this resumes it" in (folder / "log.txt").read_text()
