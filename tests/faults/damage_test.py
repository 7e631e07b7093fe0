"""What a disk does to a checkpoint: bits flip, files are cut, emptied, lost, or stand elsewhere."""

import contextlib
import io
import logging
import random
import shutil
from pathlib import Path
from typing import NamedTuple

import chex
import ensembles
import jax
import pytest
from campaign import HELD

import kdjax
from kdjax.ending import DONE
from kdjax.training import loop, resume, run_folder, start, stored
from kdjax.types import ConfigError


class Ran(NamedTuple):
  """A run that has checkpoints of steps 8 and 12, and what is in them."""

  experiment: object
  folder: Path
  states: dict
  place: Path  # for copies of it


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
  place = tmp_path_factory.mktemp("damage")
  c = ensembles.config("mhd pool", norm="batch", dtype="float32", steps=12, save_every=4)
  c.faults.saves = 1
  e = ensembles.build(c, mesh=2)
  assert loop.run(e, place / "run", command="") == DONE
  states = {s: jax.device_get(stored.state(place / "run", s, e.shapes())) for s in (8, 12)}
  return Ran(e, place / "run", states, place)


def files(folder):
  return sorted(p for p in folder.rglob("*") if p.is_file())


def copied(ran):
  shutil.rmtree(ran.place / "copy", ignore_errors=True)
  return Path(shutil.copytree(ran.folder, ran.place / "copy"))


def restored(ran, workdir):
  """'held' where nothing is believed that is not so, in words otherwise."""
  said = io.StringIO()
  loud = logging.StreamHandler(said)
  loud.setLevel(logging.WARNING)
  logging.getLogger().addHandler(loud)
  with contextlib.redirect_stderr(said):
    state, step, _ = resume.restore(ran.experiment, workdir)
  logging.getLogger().removeHandler(loud)
  lines = said.getvalue().splitlines()
  chex.assert_trees_all_equal(jax.device_get(state), ran.states[step])
  if step == 12:
    return HELD if not lines else f"restored, and said {lines}"
  named = len(lines) == 1 and "checkpoint 12 " in lines[0] and "checkpoints/damaged-12" in lines[0]
  aside = run_folder.steps(workdir) == [8] and (workdir / "checkpoints" / "damaged-12").exists()
  return HELD if step == 8 and named and aside else f"step {step}, {lines}"


def tried(ran, workdir):
  try:
    return restored(ran, workdir)
  except (Exception, AssertionError) as error:
    return f"{type(error).__name__}: {str(error)[:200]}"


def test_flipped_bits(ran, campaign):
  def attempt(number):
    draw = random.Random(number)
    workdir = copied(ran)
    found = files(workdir / "checkpoints" / "12")
    # Every file in turn; then as likely as it is large, as a disk would.
    turn = number < len(found)
    path = found[number] if turn else draw.choices(found, [p.stat().st_size for p in found])[0]
    data = bytearray(path.read_bytes())
    data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    path.write_bytes(data)
    return tried(ran, workdir)

  campaign.run("flips", campaign.trials(30, 400), attempt)


KINDS = ("cut", "empty", "missing", "zeros")


def test_files_cut_emptied_lost_or_zeroed(ran, campaign):
  """The short form takes every file once, the long one every way."""
  names = [p.relative_to(ran.folder) for p in files(ran.folder / "checkpoints" / "12")]

  def attempt(number):
    workdir = copied(ran)
    turn, place = divmod(number, len(names))
    path, kind = workdir / names[place], KINDS[(place + turn) % len(KINDS)]
    data = path.read_bytes()
    if kind == "missing":
      path.unlink()
    else:
      new = {"cut": data[: len(data) // 2], "empty": b"", "zeros": bytes(len(data))}[kind]
      path.write_bytes(new)
    return tried(ran, workdir)

  campaign.run("cuts", campaign.trials(len(names), len(KINDS) * len(names)), attempt)


def test_folders_lost(ran, campaign):
  folders = sorted(p for p in (ran.folder / "checkpoints" / "12").rglob("*") if p.is_dir())
  names = [p.relative_to(ran.folder) for p in folders]

  def attempt(number):
    workdir = copied(ran)
    shutil.rmtree(workdir / names[number])
    return tried(ran, workdir)

  campaign.run("folders", campaign.trials(4, len(names)), attempt)


def test_a_numbered_folder_without_content(ran):
  workdir = copied(ran)
  shutil.rmtree(workdir / "checkpoints" / "12")
  (workdir / "checkpoints" / "12").mkdir()
  assert restored(ran, workdir) == HELD
  workdir = copied(ran)
  shutil.rmtree(workdir / "checkpoints" / "12")
  (workdir / "checkpoints" / "12").write_bytes(b"")
  assert restored(ran, workdir) == HELD


def test_a_checkpoint_under_another_number_is_not_believed(ran, capsys):
  workdir = copied(ran)
  shutil.copytree(workdir / "checkpoints" / "8", workdir / "checkpoints" / "16")
  state, step, _ = resume.restore(ran.experiment, workdir)
  assert step == 12 and (workdir / "checkpoints" / "damaged-16").is_dir()
  assert "checkpoint 16" in (said := capsys.readouterr().err) and "that of step 8" in said
  chex.assert_trees_all_equal(jax.device_get(state), ran.states[12])


def test_when_none_is_left_nothing_is_started_over(ran, capsys):
  """Both damaged; then, as by a restart, none there; then the whole folder deleted by hand."""
  workdir = copied(ran)
  (workdir / "summary.json").unlink()
  for step in (8, 12):
    (workdir / "checkpoints" / str(step) / "meta" / "metadata").write_bytes(b"{}")
  for _ in range(2):
    with pytest.raises(ConfigError, match="no whole one is left"):
      loop.run(ran.experiment, workdir, command="")
  names = sorted(p.name for p in (workdir / "checkpoints").iterdir())
  assert names == ["damaged-12", "damaged-8"]
  assert capsys.readouterr().err.count("set aside") == 2
  shutil.rmtree(workdir / "checkpoints")
  with pytest.raises(ConfigError, match="the run is not started over"):
    loop.run(ran.experiment, workdir, command="")


def test_who_only_reads_passes_damage_over_and_leaves_it(ran, capsys):
  workdir = copied(ran)
  (workdir / "checkpoints" / "12" / "meta" / "metadata").write_bytes(b"{}")
  mine = kdjax.load(workdir, client=2)
  assert "checkpoint 12" in capsys.readouterr().err
  expected = jax.tree.map(lambda x: x[2], ran.states[8].clients[0].params)
  chex.assert_trees_all_equal(mine.params, expected)
  given = start.weights(workdir, 2, key="start")
  chex.assert_trees_all_equal(given["params"], expected)
  assert run_folder.steps(workdir) == [8, 12]
  with pytest.raises(ConfigError, match="no whole one is left"):
    kdjax.load(workdir, client=2, step=12)
