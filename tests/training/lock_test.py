"""One run a folder: who may enter, who waits, who is turned away."""

import json
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import ensembles
import entering
import pytest

from kdjax.ending import DONE
from kdjax.training import lock, loop
from kdjax.types import ConfigError


def write(workdir, age=0.0, **changes):
  """A lock as another run left it, `age` seconds old."""
  holder = {"host": "elsewhere", "process": 1, "started": 5, "machine": "another", "since": "then"}
  path = workdir / "lock"
  path.write_text(json.dumps(holder | changes))
  os.utime(path, (time.time() - age,) * 2)
  return path


def mine(process, started):
  return dict(machine=lock._machine(), process=process, started=started)


def test_a_second_run_is_turned_away_by_name_and_a_third_may_follow_the_first(tmp_path):
  with lock.held(tmp_path) as first:
    name = f"written by process {os.getpid()} on .* since 20"
    with pytest.raises(ConfigError, match=name), lock.held(tmp_path):
      pass
    first.check()
  assert not (tmp_path / "lock").exists()
  with lock.held(tmp_path):
    pass


def test_a_run_holds_its_folder_while_it_trains(tmp_path):
  e = ensembles.build(ensembles.config("separate", dtype="float32", steps=4))
  seen = []

  def stop():
    with pytest.raises(ConfigError, match="is being written by process"):
      loop.run(e, tmp_path, command="")
    seen.append(json.loads((tmp_path / "lock").read_text())["process"])
    return False

  assert loop.run(e, tmp_path, command="", stop=stop) == DONE
  assert set(seen) == {os.getpid()} and not (tmp_path / "lock").exists()


def test_the_lock_of_a_process_that_was_killed_is_no_hindrance(tmp_path):
  """Nor is one whose number another process has now, nor a dead one that nobody waited for."""
  code = "import sys, time; from kdjax.training import lock\nwith lock.held(sys.argv[1]):\n"
  code += "  print('held', flush=True); time.sleep(600)"
  root = Path(__file__).parent.parent.parent
  command = [sys.executable, "-c", code, str(tmp_path)]
  with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as other:
    assert other.stdout.readline() == "held\n"
    with pytest.raises(ConfigError, match=f"process {other.pid} "), lock.held(tmp_path):
      pass
    other.kill()
    os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)  # a zombie from now on
    began = time.monotonic()
    with lock.held(tmp_path):
      assert time.monotonic() - began < 1
  write(tmp_path, **mine(os.getppid(), 1))
  with lock.held(tmp_path):
    assert json.loads((tmp_path / "lock").read_text())["process"] == os.getpid()


def test_another_machines_lock_is_waited_for_until_it_is_stale(tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(lock, "STALE", 1.5)
  monkeypatch.setattr(lock, "LOOK", 0.1)
  write(tmp_path)
  began = time.monotonic()
  with lock.held(tmp_path):
    assert 1.4 < time.monotonic() - began < 10
  assert capsys.readouterr().err.count("waiting until") == 1


def test_a_lock_from_the_future_is_waited_for_no_longer(tmp_path, monkeypatch):
  """The clock was set back by an hour since its holder, another machine, was lost."""
  monkeypatch.setattr(lock, "STALE", 0.3)
  monkeypatch.setattr(lock, "LOOK", 0.05)
  write(tmp_path, age=-3600)
  with lock.held(tmp_path):
    assert json.loads((tmp_path / "lock").read_text())["process"] == os.getpid()


@pytest.mark.parametrize("content", [None, "", "[]", '{"host": "el'])
def test_a_stale_lock_is_taken_at_once_whatever_it_says(content, tmp_path, capsys):
  path = write(tmp_path)
  if content is not None:
    path.write_text(content)
  os.utime(path, (time.time() - 61,) * 2)
  with lock.held(tmp_path):
    pass
  assert capsys.readouterr().err == ""


def test_one_that_is_touched_meanwhile_turns_away(tmp_path, monkeypatch):
  monkeypatch.setattr(lock, "LOOK", 0.1)
  path = write(tmp_path, age=30)
  threading.Timer(0.5, os.utime, (path,)).start()
  with pytest.raises(ConfigError, match="process 1 on elsewhere since then"), lock.held(tmp_path):
    pass


def test_a_lock_shows_that_its_holder_lives(tmp_path, monkeypatch):
  monkeypatch.setattr(lock, "BEAT", 0.05)
  with lock.held(tmp_path):
    os.utime(tmp_path / "lock", (1, 1))
    deadline = time.monotonic() + 10
    while (tmp_path / "lock").stat().st_mtime == 1 and time.monotonic() < deadline:
      time.sleep(0.05)
    assert (tmp_path / "lock").stat().st_mtime > 1


def test_who_lost_the_folder_while_asleep_is_told_and_leaves_the_lock(tmp_path):
  with lock.held(tmp_path) as held:
    write(tmp_path)
    with pytest.raises(ConfigError, match="on elsewhere since then"):
      held.check()
  assert json.loads((tmp_path / "lock").read_text())["host"] == "elsewhere"


@pytest.mark.parametrize("left", [False, True])
def test_of_many_that_start_at_once_one_gets_in(left, tmp_path):
  """On a fresh folder, and on one with the lock of a dead process."""
  context = multiprocessing.get_context("forkserver")
  context.set_forkserver_preload(["kdjax.training.lock"])  # imported once for all of them
  barrier, results = context.Barrier(4), context.Queue()
  if left:
    write(tmp_path, **mine(2**22 + 1, 1))
  everyone = [
    context.Process(target=entering.enter, args=(tmp_path, barrier, results)) for _ in range(4)
  ]
  for one in everyone:
    one.start()
  found = sorted(results.get(timeout=120) for _ in everyone)
  for one in everyone:
    one.join()
  assert found == ["held"] + ["refused"] * 3
