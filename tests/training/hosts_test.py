"""Several processes: they agree with one, hold their own clients' data, and resume each other."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import NonCallableMock

import jax
import numpy as np
import pytest
from helpers import usually
from small_data import pixels, save

import kdjax
from kdjax.core import hosts
from kdjax.training import writer

ROOT = Path(__file__).parent.parent.parent
NETWORK = ("mlp", {"hidden": (8,), "activation": "tanh"})
TINY = {
  "replicas": 1,
  "compare": (),
  "clients": ((4, *NETWORK),),
  "algo.aux_heads": 1,
  "algo.refresh_every": 4,
  "steps": 8,
  "save_every": 4,
  "log_every": 4,
  "evals.accuracy.every": 4,
}


def flags(changes):
  """The small run with changes, as the command line has it."""
  values = (TINY | changes).items()
  return ["--config=configs/mhd_digits_cycle.py", *(f"--config.{k}={v}" for k, v in values)]


def alone(workdir, **changes):
  """One process: this one, on one device."""
  config = kdjax.get_config("mhd_digits_cycle", **TINY | changes)
  kdjax.train(config, workdir, devices=jax.devices()[:1])


def launch(processes, workdir, **changes):
  command = [sys.executable, "launch/local.py", f"--processes={processes}", "--", *flags(changes)]
  done = subprocess.run(
    [*command, f"--workdir={workdir}"], cwd=ROOT, capture_output=True, text=True, timeout=300
  )
  assert done.returncode == 0, done.stderr
  return done.stdout


def numbers(workdir):
  lines = writer.read_metrics(workdir)
  times = ("images_per_second", "input_bound")
  return [{k: v for k, v in line.items() if k not in times} for line in lines]


def assert_agree(a, b):
  assert [line.keys() for line in a] == [line.keys() for line in b] and a
  for one, other in zip(a, b, strict=True):
    for key, value in one.items():
      assert value == (
        other[key] if isinstance(value, str) else pytest.approx(other[key], rel=1e-4)
      )


@pytest.fixture(scope="module")
def one(tmp_path_factory):
  workdir = tmp_path_factory.mktemp("one")
  alone(workdir)
  return workdir


def test_four_processes_agree_with_one(one, tmp_path):
  """Two do, too: the next test."""
  out = launch(4, tmp_path)
  assert out.count("private %") == 1  # one process speaks for all
  assert_agree(numbers(tmp_path), numbers(one))
  record = json.loads((tmp_path / "config.json").read_text())
  assert record["device"].startswith("4 x")
  assert "--process" not in record["command"]


@pytest.mark.thorough
def test_two_processes_go_on_where_one_was_killed(one, tmp_path):
  """What was saved by one process is restored by two."""
  shutil.copytree(one, tmp_path / "run")
  shutil.rmtree(tmp_path / "run" / "checkpoints" / "8")
  (tmp_path / "run" / "summary.json").unlink()
  launch(2, tmp_path / "run")
  assert_agree(numbers(tmp_path / "run"), numbers(one))


@pytest.mark.parametrize("resident_bytes", usually({0}, [0, 2**20]))
def test_two_processes_share_batches(tmp_path, resident_bytes):
  """Three clients on two processes: each looks at half of every batch, read as needed or not."""
  for split, n in (("train", 40), ("test", 10)):
    for i in range(n):
      save(tmp_path / "images" / split / str(i % 10) / f"{i}.png", pixels(8, 8))
  more = {
    "clients": ((3, *NETWORK),),
    "source": f"folder:{tmp_path}/images",
    "source_info.train": 40,
    "source_info.test": 10,
    "partition": "equal",
    "primary": "random",
    "primary_labels": (),
    "batch": 4,
    "public_batch": 4,
  }
  alone(tmp_path / "one", **more)
  launch(2, tmp_path / "two", **more, source_resident_bytes=resident_bytes)
  assert_agree(numbers(tmp_path / "two"), numbers(tmp_path / "one"))
  record = json.loads((tmp_path / "two" / "config.json").read_text())
  assert record["layout"]["mesh"] == {"client": 1, "data": 2}


def test_two_processes_stop_at_the_same_step(tmp_path):
  """A signal reaches each at its own time; they save one common step and say how to go on."""
  long = flags({"steps": 100000, "save_every": 0, "log_every": 1})
  command = [sys.executable, "launch/local.py", "--processes=2", "--", *long]
  command.append(f"--workdir={tmp_path}")
  running = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
  try:
    deadline = time.monotonic() + 120
    while not any(line["phase"] == "train" for line in writer.read_metrics(tmp_path)):
      assert running.poll() is None and time.monotonic() < deadline
      time.sleep(0.05)
    running.terminate()
    assert running.wait(timeout=120) == 42
  finally:
    with contextlib.suppress(ProcessLookupError):
      os.killpg(running.pid, signal.SIGKILL)
    running.wait()
  last = writer.read_metrics(tmp_path)[-1]["step"]
  saved = [int(p.name) for p in (tmp_path / "checkpoints").iterdir() if p.name.isdigit()]
  assert saved == [last]


def test_who_waits_in_vain_for_the_others_ends_with_44(tmp_path):
  program = "from kdjax import main; main.TOGETHER = 1; main.cli()"
  waits = ("--coordinator=localhost:1", "--processes=2", "--process=1", f"--workdir={tmp_path}")
  done = subprocess.run(
    [sys.executable, "-c", program, *flags({}), *waits], capture_output=True, text=True, timeout=120
  )
  assert done.returncode == 44
  assert done.stderr == "kdjax: not all processes started within 1 s; the same command resumes\n"


def test_a_process_holds_what_its_devices_look_at():
  """A mesh of 2 x 2 devices, a process a row: the second one holds the second half of clients."""
  devices = [[SimpleNamespace(process_index=p)] * 2 for p in (0, 1)]
  mesh = NonCallableMock(spec=jax.sharding.Mesh, devices=np.array(devices))
  expected = np.array([[True] * 4, [True] * 4, [False] * 4, [False] * 4])
  assert (hosts.holds(mesh, 4, 4) == expected).all()
  columns = NonCallableMock(
    spec=jax.sharding.Mesh, devices=np.array(devices).T
  )  # a process a column: half of each batch
  assert (hosts.holds(columns, 2, 4) == np.array([[True, True, False, False]] * 2)).all()
