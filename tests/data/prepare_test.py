"""Resized copies: what is in them, how they are stopped and continued, and what is refused."""

import contextlib
import json
import pickle
import re
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_data import load, pixels, refused, save

from kdjax.data import prepare, records, sources
from kdjax.data.images import Damaged
from kdjax.data.unreadable import replacing
from kdjax.ending import BAD_INPUT, DONE, STOPPED
from kdjax.types import ConfigError


@pytest.fixture
def photos(tmp_path):
  """A folder of twelve JPEGs of three shapes in two classes, eight of them to train on."""
  for split, n in (("train", 4), ("test", 2)):
    for label in "ab":
      for i in range(n):
        h, w = ((20, 30), (30, 20), (24, 24))[i % 3]
        smooth = Image.fromarray(pixels(4, 4, 3)).resize((w, h), Image.Resampling.BICUBIC)
        save(tmp_path / split / label / f"{i}.jpg", np.asarray(smooth))
  return tmp_path


def copy(source, out, *more, size=16):
  return prepare.main([source, f"--out={out}", f"--size={size}", "--workers=1", *more])


def snapshot(out):
  return {p.name: p.read_bytes() for p in out.iterdir()}


def same(a, b):
  for one, other in ((a.train, b.train), (a.test, b.test)):
    n = len(one.labels)
    np.testing.assert_array_equal(one.labels, other.labels)
    np.testing.assert_array_equal(one.strata, other.strata)
    np.testing.assert_array_equal(one.fetch(np.arange(n)), other.fetch(np.arange(n)))


@pytest.mark.parametrize("resident_bytes", [2**20, 0])
def test_a_raw_copy_holds_the_very_pixels(photos, resident_bytes, capsys):
  out = photos / "copy"
  assert copy(f"folder:{photos}", out, "--shards=3") == DONE
  assert f"--config.source=records:{out}" in capsys.readouterr().out
  right = load(f"folder:{photos}", (16, 16, 3), 2, resize=True)
  found = load(f"records:{out}", (16, 16, 3), 2, resident_bytes=resident_bytes)
  assert (found.train.array is None) == (resident_bytes == 0)
  same(found, right)
  index = json.loads((out / "index.json").read_text())
  assert [s["examples"] for s in index["splits"]["train"]["shards"]] == [2, 3, 3]
  again = pickle.loads(pickle.dumps(found.train))  # as a worker process receives it
  np.testing.assert_array_equal(again.fetch([7, 0, 7]), right.train.fetch([7, 0, 7]))


def test_a_jpeg_copy_comes_close_to_the_pixels(photos):
  out = photos / "copy"
  assert copy(f"folder:{photos}", out, "--format=jpeg") == DONE
  right = load(f"folder:{photos}", (16, 16, 3), 2, resize=True)
  found = load(f"records:{out}", (16, 16, 3), 2, resize=True, resident_bytes=0)
  error = found.train.fetch(np.arange(8)).astype(float) - right.train.array
  assert 0 < abs(error).mean() < 8
  np.testing.assert_array_equal(found.train.labels, right.train.labels)


def test_arrays_are_copied_with_labels_of_every_size(tmp_path):
  labels = np.array([4, 0, 1, 3, 2])
  ramp = 10 * np.arange(6)[:, None] + np.arange(6)
  images = (ramp + 30 * labels[:, None, None])[..., None].astype(np.uint8)
  arrays = {
    f"{s}_{k}": v for s in ("train", "test") for k, v in (("images", images), ("labels", labels))
  }
  np.savez(tmp_path / "a.npz", **arrays)
  name = f"npz:{tmp_path}/a.npz"
  assert copy(name, tmp_path / "same", size=6) == DONE
  same(load(f"records:{tmp_path}/same", (6, 6, 1), 5), load(name, (6, 6, 1), 5))
  assert copy(name, tmp_path / "half", size=3) == DONE
  half = load(f"records:{tmp_path}/half", (3, 3, 1), 5).train.array
  np.testing.assert_allclose(half[:, 1, 1, 0], 27.5 + 30 * labels, atol=0.5)  # a ramp's middle


def test_a_copy_without_test_images_needs_a_holdout(photos):
  out = photos / "copy"
  (photos / "test").rename(photos / "unused")
  assert copy(f"folder:{photos}", out, "--train-only") == DONE
  with refused(r"has no test split, only \['train'\]; holdout=n"):
    load(f"records:{out}", (16, 16, 3), 2)
  part = load(f"records:{out}", (16, 16, 3), 2, holdout=2, resident_bytes=0)
  assert len(part.train.labels) == 6 and part.test.fetch([0, 1]).shape == (2, 16, 16, 3)


def test_a_stopped_copy_goes_on_and_ends_as_if_it_had_not_been(photos, monkeypatch):
  whole, cut = photos / "whole", photos / "cut"
  copy(f"folder:{photos}", whole, "--shards=4")
  written, real = [], prepare.shard

  def until_third(job, out, split, entry):
    if len(written) == 3:
      (out / ".train-00003-of-00004.array_record.1.tmp").write_bytes(b"half")
      raise KeyboardInterrupt
    written.append(entry["file"])
    return real(job, out, split, entry)

  monkeypatch.setattr(prepare, "shard", until_third)
  assert copy(f"folder:{photos}", cut, "--shards=4") == STOPPED
  with refused("1 of 4 train shards are missing or not whole, train-00003.* the first; run the"):
    load(f"records:{cut}", (16, 16, 3), 2)
  before = {name: (cut / name).stat().st_mtime_ns for name in written}
  monkeypatch.setattr(prepare, "shard", real)
  assert copy(f"folder:{photos}", cut, "--shards=4") == DONE
  assert snapshot(cut) == snapshot(whole)
  assert before == {name: (cut / name).stat().st_mtime_ns for name in written}


def test_what_two_processes_are_writing_at_a_stop_counts(photos, monkeypatch):
  real = prepare.concurrent.futures.as_completed

  def one_then_stop(running):
    yield next(real(running))
    raise KeyboardInterrupt

  monkeypatch.setattr(prepare.concurrent.futures, "as_completed", one_then_stop)
  out = photos / "copy"
  assert copy(f"folder:{photos}", out, "--shards=4", "--workers=2") == STOPPED
  splits = json.loads((out / "index.json").read_text())["splits"].values()
  known = {s["file"] for split in splits for s in split["shards"] if s["sha256"]}
  assert known == {p.name for p in out.glob("*.array_record")} and len(known) > 1


def test_a_killed_command_of_two_processes_goes_on(photos):
  """SIGKILL while shards are written: what was finished stays, and no worker outlives it."""
  whole, cut = photos / "whole", photos / "cut"
  copy(f"folder:{photos}", whole, "--shards=4")
  command = [sys.executable, "-m", "kdjax.data.prepare", f"folder:{photos}", f"--out={cut}"]
  command += ["--size=16", "--shards=4", "--workers=2"]
  with subprocess.Popen(command, start_new_session=True) as running:
    while not list(cut.glob("*.array_record")):
      assert running.poll() is None
      time.sleep(0.01)
    running.kill()
  deadline = time.monotonic() + 10
  while _alive(running.pid):
    assert time.monotonic() < deadline, "a worker outlived the command"
    time.sleep(0.05)
  assert subprocess.run(command, check=True, capture_output=True, text=True).stdout
  assert snapshot(cut) == snapshot(whole)


def _alive(group):
  """Whether a process of a group runs; one that nobody has buried does not."""
  for stat in Path("/proc").glob("[0-9]*/stat"):
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
      state, _, its_group = stat.read_text().rpartition(")")[2].split()[:3]
      if int(its_group) == group and state not in "ZX":
        return True
  return False


def test_a_damaged_shard_is_found_and_written_anew(photos):
  out = photos / "copy"
  copy(f"folder:{photos}", out, "--shards=2")
  before, path = snapshot(out), out / "train-00001-of-00002.array_record"
  flipped = bytearray(path.read_bytes())
  flipped[100] ^= 1
  path.write_bytes(flipped)
  (out / "test-00000-of-00002.array_record").write_bytes(b"short")
  with refused("1 of 2 test shards are missing or not whole"):
    load(f"records:{out}", (16, 16, 3), 2)
  assert copy(f"folder:{photos}", out, "--shards=2") == DONE
  assert snapshot(out) == before


@pytest.mark.parametrize("form", ["raw", "jpeg"])
def test_a_record_that_was_damaged_since_is_a_damaged_image(photos, form):
  """Its reader raised a RuntimeError, which ended the run with a traceback."""
  out = photos / "copy"
  copy(f"folder:{photos}", out, "--shards=4", f"--format={form}")
  path = out / "train-00001-of-00004.array_record"
  flipped = bytearray(path.read_bytes())
  for i in range(100, 110):
    flipped[i] ^= 255
  path.write_bytes(flipped)
  opened = partial(load, f"records:{out}", (16, 16, 3), 2)
  again = partial(sources.open_source, f"records:{out}", info={}, holdout=0, begun=True)
  if form == "jpeg":  # whose headers are looked at
    with refused("example 2 cannot be read: "):
      opened(resident_bytes=0)
  with refused("example 2 cannot be read: "):
    opened(resident_bytes=2**20)
  train = again(resident_bytes=0).train
  _, damaged = replacing(train)(np.arange(8))
  assert np.flatnonzero(damaged).tolist() == [2]


def test_a_raw_record_of_another_length_is_a_damaged_image():
  read = records.Raw("records:mine", [bytes(4), bytes(3)], (2, 2, 1))
  assert read(np.array([0])).shape == (1, 2, 2, 1)
  with pytest.raises(Damaged, match="source = 'records:mine': example 1 cannot be read: cannot"):
    read(np.array([0, 1]))


@pytest.mark.parametrize(
  "change, match",
  [
    (["--quality=90"], "with quality = 95, not 90; use another folder"),
    (["--format=jpeg"], "with format = 'raw', not 'jpeg'"),
    (["--shards=3"], r"with shards = \{'train': 1, 'test': 1\}, not \{'train': 3"),
    (["--shards=-1"], "--shards = -1: must lie in 0"),
    (["--quality=0"], "--quality = 0: must lie in 1..100"),
  ],
)
def test_another_copy_in_the_same_folder_is_refused(photos, change, match, capsys):
  out = photos / "copy"
  copy(f"folder:{photos}", out)
  before = snapshot(out)
  assert copy(f"folder:{photos}", out, *change) == BAD_INPUT
  assert re.search(match, capsys.readouterr().err)
  assert snapshot(out) == before


def test_other_images_behind_the_same_name_are_refused(photos, capsys):
  copy(f"folder:{photos}", photos / "copy")
  (photos / "train/a/3.jpg").rename(photos / "train/b/9.jpg")
  assert copy(f"folder:{photos}", photos / "copy") == BAD_INPUT
  assert "with labels = " in capsys.readouterr().err


def test_broken_sources_are_refused(photos, capsys):
  assert copy("digit", photos / "copy") == BAD_INPUT
  assert copy(f"records:{photos}", photos / "copy") == BAD_INPUT
  (photos / "train/a/1.jpg").write_bytes(b"no image")
  assert copy(f"folder:{photos}", photos / "copy") == BAD_INPUT
  assert "a/1.jpg is no image that Pillow can read" in capsys.readouterr().err
  assert not (photos / "copy").exists()


def test_two_commands_do_not_write_one_folder(photos):
  with prepare.locked(photos), refused("another process is writing it"), prepare.locked(photos):
    pass


def test_copies_that_cannot_be_read_say_why(photos):
  out = photos / "copy"
  name = f"records:{out}"
  with refused("there is no folder"):
    load(name, (16, 16, 3), 2)
  out.mkdir()
  with refused("holds no index.json; write it with python -m kdjax.data.prepare"):
    load(name, (16, 16, 3), 2)
  copy(f"folder:{photos}", out)
  with refused(r"source_info.image = \(8, 8, 3\): .*are \(16, 16, 3\)"):
    load(name, (8, 8, 3), 2, resize=True)
  labels = out / "train_labels.npz"
  right = labels.read_bytes()
  records.write_labels(out, "train", np.zeros(8), np.zeros(8))
  with refused("train_labels.npz is damaged"):
    load(name, (16, 16, 3), 2)
  labels.write_bytes(b"Q" + right[1:])
  with refused("train_labels.npz cannot be read: .*; run the command that prepares it again"):
    load(name, (16, 16, 3), 2)
  labels.write_bytes(right)
  index = json.loads((out / "index.json").read_text())
  for lost in ("classes", "sha256", "labels_sha256"):
    (out / "index.json").write_text(json.dumps(index).replace(f'"{lost}"', '"what"'))
    with refused("index.json is damaged: it lacks entries"):
      load(name, (16, 16, 3), 2)
  (out / "index.json").write_text(json.dumps(index | {"version": 2}))
  with refused("is of version 2, this kdjax reads 1; prepare the set again"):
    load(name, (16, 16, 3), 2)
  (out / "index.json").write_text("{")
  with refused("is no index of a copy"):
    load(name, (16, 16, 3), 2)


def test_a_config_error_crosses_processes():
  error = pickle.loads(pickle.dumps(ConfigError("source", "x", "right")))
  assert (error.key, error.value, error.hint) == ("source", "x", "right")


def test_a_table_has_no_images_to_copy(tmp_path):
  (tmp_path / "t.csv").write_text("a,label\n1,0\n2,1\n")
  command = [f"csv:{tmp_path}/t.csv", "--out", str(tmp_path / "out"), "--train-only"]
  assert prepare.main(command) == BAD_INPUT
  assert not (tmp_path / "out").exists()
