"""A disk that takes nothing for a while, or any more: training goes on, and nothing is made up."""

import contextlib
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import chex
import ensembles
import jax
import pytest

from kdjax.ending import DONE, STOPPED, UNSAVED
from kdjax.training import checkpoint, loop, run_folder, stored, writer
from kdjax.types import ConfigError


@pytest.fixture(scope="module")
def experiment():
  c = ensembles.config("separate", dtype="float32", steps=24, save_every=4, log_every=1)
  c.mesh.steps_per_dispatch, c.faults.saves = 1, 3
  return ensembles.build(c)


@pytest.fixture(scope="module")
def whole(experiment, tmp_path_factory):
  """The final state and the log of a run that nothing happened to."""
  workdir = tmp_path_factory.mktemp("whole")
  assert loop.run(experiment, workdir, command="") == DONE
  return final(experiment, workdir), log(workdir)


def final(experiment, workdir):
  return jax.device_get(stored.state(workdir, 24, experiment.shapes()))


def log(workdir):
  times = ("images_per_second", "input_bound")
  return [{k: v for k, v in x.items() if k not in times} for x in writer.read_metrics(workdir)]


def at(workdir, changes, stopping=None):
  """A `stop` that makes changes, {step: what to do}, and says yes at a step if at all.

  Before the sixth step it waits for the checkpoint of step 4, which is saved beside the training.
  """
  asked = []

  def stop():
    asked.append(1)
    while len(asked) == 6 and run_folder.steps(workdir) != [4]:
      time.sleep(0.01)
    changes.get(len(asked), lambda: None)()
    return len(asked) == stopping

  return stop


def assert_as_whole(experiment, workdir, whole):
  chex.assert_trees_all_equal(final(experiment, workdir), whole[0])
  assert log(workdir) == whole[1]


def lines(capsys, word="kdjax:"):
  return [x for x in capsys.readouterr().err.splitlines() if word in x]


class Blocked:
  """The checkpoints' folder gone, and a file in its place; needs no privileges."""

  def __init__(self, workdir):
    self.folder, self.aside = workdir / "checkpoints", workdir / "aside"

  def on(self):
    self.folder.rename(self.aside)
    self.folder.write_bytes(b"")

  def off(self):
    self.folder.unlink()
    self.aside.rename(self.folder)


class Full:
  """A small disk of its own, filled to the last byte."""

  def __init__(self, workdir):
    self.filler = workdir / "filler"

  def on(self):
    with contextlib.suppress(OSError), open(self.filler, "wb", buffering=0) as file:
      while True:
        file.write(bytes(4096))

  def off(self):
    self.filler.unlink()


class ReadOnly:
  """A disk for reading alone where the checkpoints are."""

  def __init__(self, workdir):
    self.folder = workdir / "checkpoints"

  def on(self):
    mount("-t", "tmpfs", "-o", "ro", "tmpfs", self.folder)

  def off(self):
    subprocess.run(["umount", "-l", str(self.folder)], check=True)


def mount(*words):
  subprocess.run(["mount", *map(str, words)], check=True, capture_output=True)


@pytest.fixture
def disk(tmp_path):
  """A disk of 2 MiB."""
  workdir = tmp_path / "disk"
  workdir.mkdir()
  try:
    mount("-t", "tmpfs", "-o", "size=2m", "tmpfs", workdir)
  except (OSError, subprocess.CalledProcessError):
    pytest.skip("mounting is not permitted here")
  yield workdir
  subprocess.run(["umount", "-l", str(workdir)], check=True)


@pytest.fixture(params=["blocked", "full", "read-only"])
def fault(request, tmp_path):
  if request.param == "blocked":
    return Blocked(tmp_path), tmp_path
  workdir = request.getfixturevalue("disk")
  return {"full": Full, "read-only": ReadOnly}[request.param](workdir), workdir


def test_a_save_that_fails_is_tried_again_and_the_run_ends_as_if_nothing_had_been(
  fault, experiment, whole, capsys
):
  """Two saves fail, of steps 8 and 12: one warning, nothing listed, the same run in the end."""
  disk, workdir = fault
  listed = []
  look = lambda: listed.append(run_folder.steps(workdir))
  changes = {6: disk.on, 13: disk.off, 14: look}
  assert loop.run(experiment, workdir, command="", stop=at(workdir, changes)) == DONE
  said = lines(capsys)
  assert sum("is not saved" in line for line in said) == 1 and len(said) <= 4, said
  assert sum("saving works again" in line for line in said) == 1
  assert listed == [[4]]
  assert_as_whole(experiment, workdir, whole)
  assert not list(workdir.rglob("*orbax-checkpoint-tmp*"))


def test_what_is_written_after_a_save_has_failed_is_gone_in_the_end(
  experiment, tmp_path, monkeypatch
):
  """Orbax's threads may outlive the save that they were part of."""
  late = tmp_path / "checkpoints" / "12.orbax-checkpoint-tmp" / "rest.orbax-checkpoint-tmp"
  drop = checkpoint.Checkpoints._drop
  monkeypatch.setattr(
    checkpoint.Checkpoints, "_drop", lambda self: (drop(self), late.mkdir(parents=True))
  )
  assert loop.run(experiment, tmp_path, command="") == DONE
  assert run_folder.steps(tmp_path)[-1] == 24 and not late.parent.exists()


def test_a_disk_that_stays_so_ends_the_run_in_order_and_the_same_command_goes_on(
  fault, experiment, whole, capsys
):
  disk, workdir = fault
  assert loop.run(experiment, workdir, command="", stop=at(workdir, {6: disk.on})) == UNSAVED
  said = lines(capsys)
  assert said[-1] == "kdjax: the disk takes no checkpoint: there is none yet" or (
    said[-1].endswith("that of step 4")
  )
  disk.off()
  assert loop.run(experiment, workdir, command="") == DONE
  assert_as_whole(experiment, workdir, whole)


def test_a_folder_that_vanishes_is_not_made_again(experiment, tmp_path, capsys):
  workdir = tmp_path / "run"
  gone = lambda: shutil.rmtree(workdir)
  assert loop.run(experiment, workdir, command="", stop=at(workdir, {6: gone})) == UNSAVED
  assert not workdir.exists()
  said = lines(capsys)
  assert "the folder is gone" in "".join(said) and len(said) <= 4


def test_and_one_that_comes_back_is_gone_on_with(experiment, whole, tmp_path):
  workdir = tmp_path / "run"
  changes = {
    6: lambda: workdir.rename(tmp_path / "away"),
    10: lambda: (tmp_path / "away").rename(workdir),
  }
  assert loop.run(experiment, workdir, command="", stop=at(workdir, changes)) == DONE
  assert_as_whole(experiment, workdir, whole)


def test_a_stop_on_a_disk_that_is_full_says_that_nothing_was_saved(experiment, tmp_path, capsys):
  disk = Blocked(tmp_path)
  stop = at(tmp_path, {6: disk.on}, stopping=6)
  assert loop.run(experiment, tmp_path, command="", stop=stop) == UNSAVED
  assert "is not saved" in lines(capsys)[0]
  disk.off()
  assert run_folder.steps(tmp_path) == [4]


def test_files_that_may_not_grow(tmp_path):
  """A limit of 8 KiB a file, as quotas do: exit 43 without a traceback."""
  command = [
    *(sys.executable, "-m", "kdjax.main", "--config=mhd_digits:separate", "--devices=1"),
    *("--config.steps=8", "--config.save_every=2", "--config.log_every=2", "--config.replicas=1"),
    *("--config.evals.accuracy.every=8", "--config.faults.saves=2", f"--workdir={tmp_path}"),
    "--config.clients=((5, 'mlp', {'hidden': (8,), 'activation': 'tanh'}),)",
  ]
  settings = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent.parent)}
  limited = ["bash", "-c", f"ulimit -f 8; exec {shlex.join(command)}"]
  done = subprocess.run(limited, env=settings, capture_output=True, text=True, timeout=300)
  assert done.returncode == UNSAVED, done.stderr
  assert "Traceback" not in done.stderr and "is not saved (File too large)" in done.stderr
  assert run_folder.steps(tmp_path) == []


@pytest.mark.parametrize("place", ["checkpoints", "metrics.jsonl", "config.json", "lock"])
def test_something_else_in_the_place_of_a_file_is_named(place, experiment, tmp_path):
  if place == "checkpoints":
    (tmp_path / place).write_bytes(b"")
    assert loop.run(experiment, tmp_path, command="") == UNSAVED
    return
  (tmp_path / place).mkdir()
  with pytest.raises(ConfigError, match=place):
    loop.run(experiment, tmp_path, command="", stop=lambda: True)


def test_what_a_crash_left_half_written_is_cleaned(experiment, tmp_path):
  assert loop.run(experiment, tmp_path, command="", stop=lambda: True) == STOPPED
  left = tmp_path / "checkpoints" / "20.orbax-checkpoint-tmp"
  shutil.copytree(tmp_path / "checkpoints" / "1", left)
  assert loop.run(experiment, tmp_path, command="") == DONE
  assert not left.exists()
