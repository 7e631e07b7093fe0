"""Files and progress lines, byte by byte."""

import io
import json

import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from kdjax.core import files
from kdjax.training import progress as training_progress
from kdjax.training import writer
from kdjax.training.progress import Progress

LINES = b'{"step": 1, "phase": "train", "loss": 0.5}\n{"step": 2, "phase": "eval", "x": 3}\n'


def test_a_line_is_there_at_once_and_is_json(tmp_path):
  with writer.Writer(tmp_path, resume_step=None) as out:
    out.write(1, "train", {"loss": jnp.float32(0.5)})
    out.write(2, "eval", {"x": 3})
    assert (tmp_path / "metrics.jsonl").read_bytes() == LINES
    out.write(np.int64(3), "train", {"a": float("nan"), "b": np.inf, "c": jnp.bfloat16(2.0)})
  last = (tmp_path / "metrics.jsonl").read_bytes().removeprefix(LINES)
  assert last == b'{"step": 3, "phase": "train", "a": null, "b": null, "c": 2.0}\n'
  assert writer.read_metrics(tmp_path)[2] == {
    "step": 3, "phase": "train", "a": None, "b": None, "c": 2.0,
  }  # fmt: skip


def test_numbers_must_be_scalars_under_keys_of_their_own(tmp_path):
  with writer.Writer(tmp_path, resume_step=None) as out:
    with pytest.raises(ValueError, match="size 1"):
      out.write(1, "train", {"loss": np.zeros(2)})
    with pytest.raises(TypeError, match="step"):
      out.write(1, "train", {"step": 2})
  assert (tmp_path / "metrics.jsonl").read_bytes() == b""


@pytest.mark.parametrize("torn", [b"", b'{"step": 2, "pha', b'{"step": 1}'])
def test_resume_cuts_off_what_came_after(tmp_path, torn):
  path = tmp_path / "metrics.jsonl"
  late = b'{"step": 3, "phase": "train"}\n{"step": 2, "phase":"refresh"}\n'
  path.write_bytes(LINES + late + torn)
  assert len(writer.read_metrics(tmp_path)) == 4
  with writer.Writer(tmp_path, resume_step=2) as out:
    assert path.read_bytes() == LINES + b'{"step": 2, "phase":"refresh"}\n'
    out.write(3, "train", {})
  assert path.read_bytes().endswith(b'"refresh"}\n{"step": 3, "phase": "train"}\n')
  assert [file.name for file in tmp_path.iterdir() if file.suffix == ".tmp"] == []


def test_a_run_that_starts_anew_starts_an_empty_file(tmp_path):
  path = tmp_path / "metrics.jsonl"
  path.write_bytes(b'{"step": 0, "phase": "eval"}\n')
  writer.Writer(tmp_path, resume_step=0).close()
  assert path.read_bytes() == b'{"step": 0, "phase": "eval"}\n'
  writer.Writer(tmp_path, resume_step=None).close()
  assert path.read_bytes() == b""


def test_tensorboard_events_name_phase_and_key_and_purge_on_resume(tmp_path):
  from tensorboardX.proto.event_pb2 import Event, SessionLog

  with writer.Writer(tmp_path, resume_step=7) as out:
    out.write(8, "train", {"loss": 0.5, "bad": float("nan")})
  data = next((tmp_path / "tensorboard").iterdir()).read_bytes()
  events = []
  while data:  # a record: length u64, its checksum u32, the event, its checksum u32
    size = int.from_bytes(data[:8], "little")
    events.append(Event.FromString(data[12 : 12 + size]))
    data = data[16 + size :]
  starts = [e.step for e in events if e.session_log.status == SessionLog.START]
  assert starts == [8]
  values = [(e.step, v.tag, v.simple_value) for e in events for v in e.summary.value]
  assert values == [(8, "train/loss", 0.5)]


def test_json_comes_back_in_plain_types(tmp_path):
  tree = {"a": np.arange(2), 3: (np.float32(0.5), float("inf")), "b": [jnp.ones((1, 2)), None]}
  files.write_json(tmp_path / "x.json", tree)
  assert files.read_json(tmp_path / "x.json") == {
    "a": [0, 1], "3": [0.5, None], "b": [[[1.0, 1.0]], None],
  }  # fmt: skip


def test_json_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
  path = tmp_path / "x.json"
  files.write_json(path, {"old": 1})
  with pytest.raises(TypeError):
    files.write_json(path, {"new": object()})

  def killed(descriptor):
    raise KeyboardInterrupt

  monkeypatch.setattr(files.os, "fsync", killed)
  with pytest.raises(KeyboardInterrupt):
    files.write_json(path, {"new": 2})
  assert json.loads(path.read_text()) == {"old": 1}


@pytest.fixture
def clock(monkeypatch):
  """A clock that the test moves."""
  now = [100.0]
  monkeypatch.setattr(training_progress.time, "monotonic", lambda: now[0])
  return now


def lines_of(console):
  """What a console has printed, line by line."""
  return console.file.getvalue().splitlines()


def test_plain_lines_are_rare_but_each_evaluation_has_one(clock):
  console = Console(file=io.StringIO(), force_terminal=False, width=40)
  with Progress("mhd", 2000, console=console) as progress:
    for step in range(81):  # 10 s in all: the first line and the one after 10 s
      progress.update(step, loss=0.5, images_per_second=1234.5)
      clock[0] += 0.125
    progress.update(150, accuracy=0.912)
  first, second, third = lines_of(console)
  assert first == "mhd  step 0/2,000  loss 0.5  1,234 images/s"
  assert second == "mhd  step 80/2,000  loss 0.5  1,234 images/s  0:04:00 left"
  assert third.startswith("mhd  step 150/2,000  loss 0.5  1,234 images/s  accuracy 91.2%")
  assert "\r" not in console.file.getvalue() and "\x1b" not in console.file.getvalue()


def test_the_last_step_is_shown(clock):
  console = Console(file=io.StringIO(), force_terminal=False)
  with Progress("mhd", 3, console=console) as progress:
    for step in (1, 2, 3):
      progress.update(step, loss=step)
  assert [line.split("  ")[1] for line in lines_of(console)] == ["step 1/3", "step 3/3"]


def test_the_bar_on_a_terminal():
  console = Console(file=io.StringIO(), force_terminal=True, force_interactive=True, width=80)
  with Progress("[mhd]", 10, console=console) as progress:
    progress.update(4, loss=0.5)
    progress.update(10)
  text = console.file.getvalue()
  assert "[mhd]" in text and "10/10" in text and "loss 0.5" in text


def test_nothing_is_fetched_between_lines(clock):
  class Fetched:
    count = 0

    def __float__(self):
      Fetched.count += 1
      return 0.5

  console = Console(file=io.StringIO(), force_terminal=False)
  with Progress("mhd", 1000, console=console) as progress:
    for step in range(1000):
      progress.update(step, loss=Fetched())
  assert Fetched.count == 2  # the first line and the last
