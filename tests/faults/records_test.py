"""What stands beside the checkpoints: damaged, it is mended without loss, or named with exit 2."""

import json
import shutil
from pathlib import Path

import chex
import ensembles
import jax
import numpy as np
import pytest
from helpers import usually

import kdjax
from kdjax.core import files, hosts
from kdjax.data import unreadable
from kdjax.ending import DONE, STOPPED
from kdjax.training import checkpoint, loop, resume, run_folder, stored, writer
from kdjax.types import ConfigError


def built(method="mhd pool", mesh=1, **changes):
  c = ensembles.config(method, norm="batch", dtype="float32", **changes)
  c.mesh.steps_per_dispatch, c.optim.schedule = 1, "constant"
  return ensembles.build(c, mesh=mesh)


def at(step):
  """A `stop` that says yes after a step."""
  asked = []
  return lambda: asked.append(1) or len(asked) == step


def final(e, workdir):
  return jax.device_get(stored.state(workdir, run_folder.steps(workdir)[-1], e.shapes()))


def log(workdir):
  times = ("images_per_second", "input_bound")
  return [{k: v for k, v in x.items() if k not in times} for x in writer.read_metrics(workdir)]


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
  """A run that stopped at step 6 of 12, and the same run to its end."""
  place = tmp_path_factory.mktemp("records")
  e = built(steps=12, log_every=1)
  assert loop.run(e, place / "run", command="", stop=at(6)) == STOPPED
  shutil.copytree(place / "run", place / "whole")
  assert loop.run(e, place / "whole", command="") == DONE
  return e, place


def copy(stopped, name="run"):
  e, place = stopped
  shutil.rmtree(place / "copy", ignore_errors=True)
  return e, Path(shutil.copytree(place / name, place / "copy"))


MENDED = {
  "torn": lambda data: data + b'{"step": 7, "pha',
  "empty lines": lambda data: data.replace(b"\n", b"\n\n"),
  "doubled": lambda data: data * 2,
  "zeros at the end": lambda data: data + bytes(512),
  "a line of zeros": lambda data: data + bytes(512) + b"\n",
  "later lines": lambda data: data + b'{"step": 7, "phase": "train"}\n',
  "last end lost": lambda data: data[:-1],
}
REFUSED = {
  "emptied": lambda data: b"",
  "half": lambda data: data[: len(data) // 2],
  "last line cut": lambda data: data[:-9],
  "foreign bytes": lambda data: data[:50] + b"\xff\xfe\0" + data[50:],
  "no step": lambda data: b'{"phase": "train"}\n' + data,
  "a line that is none": lambda data: data.replace(b"\n", b"\nnot json\n", 1),
  "a list": lambda data: b"[1]\n" + data,
  "another number": lambda data: data.replace(b"loss", b"lots", 1),
}


@pytest.mark.parametrize("how", MENDED)
def test_a_log_that_lost_nothing_is_mended(how, stopped, capsys):
  e, workdir = copy(stopped)
  path = workdir / "metrics.jsonl"
  path.write_bytes(MENDED[how](path.read_bytes()))
  assert loop.run(e, workdir, command="") == DONE
  said = [x for x in capsys.readouterr().err.splitlines() if "kdjax:" in x]
  assert len(said) == (how != "later lines") and all("metrics.jsonl" in x for x in said)
  assert log(workdir) == log(stopped[1] / "whole")


@pytest.mark.parametrize("how", REFUSED)
def test_a_log_that_lost_something_is_named_and_left(how, stopped):
  e, workdir = copy(stopped)
  path = workdir / "metrics.jsonl"
  path.write_bytes(REFUSED[how](path.read_bytes()))
  before = path.read_bytes()
  with pytest.raises(ConfigError, match="metrics.jsonl"):
    loop.run(e, workdir, command="")
  assert path.read_bytes() == before
  path.unlink()
  assert loop.run(e, workdir, command="") == DONE
  assert log(workdir) == [x for x in log(stopped[1] / "whole") if x["step"] > 6]


BROKEN = [b"", b'{"config": {"al', b"{}", b"[]", b"\xff\xfe"]


@pytest.mark.parametrize("content", BROKEN)
def test_a_broken_config_is_named_unless_nothing_depends_on_it(content, stopped, tmp_path):
  e, workdir = copy(stopped)
  (workdir / "config.json").write_bytes(content)
  for use in (lambda: loop.run(e, workdir, command=""), lambda: kdjax.load(workdir, client=0)):
    with pytest.raises(ConfigError, match=r"config\.json.* is damaged"):
      use()
  (tmp_path / "config.json").write_bytes(content)
  assert loop.run(e, tmp_path, command="", stop=at(1)) == STOPPED
  assert run_folder.read(tmp_path)["config"] == e.config


@pytest.mark.parametrize("content", BROKEN[:2] + BROKEN[3:])
def test_a_broken_summary_is_written_again(content, stopped, capsys):
  e, workdir = copy(stopped, "whole")
  path = workdir / "summary.json"
  before = files.read_json(path)
  path.write_bytes(content)
  with pytest.raises(ConfigError, match=r"summary\.json"):
    kdjax.Run(workdir).results()
  assert loop.run(e, workdir, command="") == DONE
  assert "summary.json is damaged: it is written again" in capsys.readouterr().err
  after = files.read_json(path)
  assert after["shared_accuracy"] == before["shared_accuracy"] and after.keys() == before.keys()


def test_a_run_killed_before_its_first_save_starts_over_without_a_word(stopped, tmp_path, capsys):
  def killed():
    raise KeyboardInterrupt

  for _ in range(2):
    with pytest.raises(KeyboardInterrupt):
      loop.run(stopped[0], tmp_path, command="", stop=killed)
  assert "kdjax:" not in capsys.readouterr().err
  assert not run_folder.ever_saved(tmp_path)


LONGER = [("mhd pool", "steps", 9, 20), ("separate", "steps", 6, 12), ("fedavg", "steps", 6, 12)]
LONGER += [("fedmd", "rounds", 1, 2), ("kd", "steps", 5, 12), ("pairwise", "rounds", 1, 2)]


@pytest.mark.parametrize("method, key, short, long", usually(("mhd pool", "pairwise"), LONGER))
def test_a_finished_run_goes_on_to_a_new_end(method, key, short, long, tmp_path, capsys):
  """With a constant rate bit for bit as if it had had that length from the start."""
  if key == "rounds":
    first, second = (built(method, steps=0, rounds=n) for n in (short, long))
  else:
    first, second = (built(method, steps=n) for n in (short, long))
  assert loop.run(first, tmp_path / "run", command="") == DONE
  done = first.batches
  assert loop.run(second, tmp_path / "run", command="") == DONE
  assert f"continues from step {done} with {key} = {long}" in capsys.readouterr().err
  assert loop.run(second, tmp_path / "straight", command="") == DONE
  found, expected = (final(second, tmp_path / name) for name in ("run", "straight"))
  chex.assert_trees_all_equal(found, expected)
  record = run_folder.read(tmp_path / "run")
  assert record["config"][key] == long and record["extended"] == [{"from": done, key: short}]
  assert files.read_json(tmp_path / "run" / f"summary-{done}.json")["steps"] == done
  assert files.read_json(tmp_path / "run" / "summary.json")["steps"] == second.batches
  with pytest.raises(ConfigError, match="batches already"):
    loop.run(first, tmp_path / "run", command="")


def test_a_run_begun_again_with_another_length_before_its_first_checkpoint_says_so(tmp_path):
  run_folder.claim(tmp_path, built("separate", steps=4), "")  # killed here
  assert loop.run(built("separate", steps=6), tmp_path, command="") == DONE
  record = run_folder.read(tmp_path)
  assert record["config"]["steps"] == 6 and record["extended"] == [{"from": 0, "steps": 4}]


def test_where_the_first_process_cannot_open_its_log_none_goes_on(tmp_path, monkeypatch):
  """In a second process, which writes nothing itself."""

  def nowhere(make):
    raise OSError(17, "File exists", "tensorboard")

  monkeypatch.setattr(hosts, "first", lambda: False)
  monkeypatch.setattr(loop.agreement, "from_first", nowhere)
  with pytest.raises(OSError, match="File exists"):
    loop._open_log(tmp_path, None, {})


def test_a_save_that_is_tried_again_leaves_a_log_that_can_be_resumed(tmp_path, monkeypatch):
  """With an unreadable image, whose line stands there once."""
  reasons = ["no room"]
  no_room = lambda self, size: reasons.pop() if reasons else ""
  monkeypatch.setattr(checkpoint.Checkpoints, "_no_room", no_room)
  one = lambda self: self.places["private"].add(3)  # it is met before the first save
  monkeypatch.setattr(unreadable.Unreadable, "unite", one)
  for stop, code in ((at(2), STOPPED), (lambda: False, DONE)):
    e = built("separate", steps=4, log_every=1)
    assert loop.run(e, tmp_path, stop=stop, command="") == code
  steps = [x["step"] for x in writer.read_metrics(tmp_path) if x["phase"] == "images"]
  assert steps == [2]


def test_a_run_saved_on_eight_devices_goes_on_with_fewer(tmp_path):
  """Parameters equal to the last bit at the restore, by value and by digest."""
  clients = ((8, *ensembles.MLP),)
  first = built(mesh=8, steps=12, clients=clients)
  assert loop.run(first, tmp_path, command="", stop=at(6)) == STOPPED
  saved = final(first, tmp_path)
  for devices in (8, 4, 2, 1):
    e = built(mesh=devices, steps=12, clients=clients)
    assert e.env.mesh.size == devices
    state, step, _ = resume.restore(e, tmp_path)
    assert step == 6
    assert {len(x.sharding.device_set) for x in jax.tree.leaves(state)} == {devices}
    chex.assert_trees_all_equal(jax.device_get(state), saved)


def old(workdir):
  """The newest checkpoint as kdjax 0.2 wrote it: nothing in `meta` but the hash and the times."""
  path = stored.path(workdir, run_folder.steps(workdir)[-1]) / "meta" / "metadata"
  meta = json.loads(path.read_bytes())
  path.write_text(json.dumps({"hash": "of 0.2", "spent": meta["spent"]}))
  record = run_folder.read(workdir) | {"hash": "of 0.2"}
  files.write_json(workdir / "config.json", record)


def test_a_checkpoint_of_an_older_version_is_read_and_said_to_be_unverified(stopped, capsys):
  e, workdir = copy(stopped)
  old(workdir)
  assert loop.run(e, workdir, command="") == DONE
  assert "saved by a kdjax before 0.3: its arrays cannot be verified" in capsys.readouterr().err
  chex.assert_trees_all_equal(final(e, workdir), final(e, stopped[1] / "whole"))


def test_one_whose_arrays_do_not_fit_is_refused_with_both_versions(stopped, monkeypatch):
  e, workdir = copy(stopped)
  split = stored.split

  def renamed(state):
    model, rest = split(state)
    return model, {("shared" if key == "local" else key): x for key, x in rest.items()}

  monkeypatch.setattr(stored, "split", renamed)
  with pytest.raises(ConfigError, match=rf"saved by kdjax .*, this is {kdjax.__version__}: rest/"):
    loop.run(e, workdir, command="")
  monkeypatch.setattr(stored, "split", split)
  old(workdir)
  monkeypatch.setattr(stored, "split", renamed)
  with pytest.raises(ConfigError, match="saved by a kdjax before 0.3, this is"):
    loop.run(e, workdir, command="")
  assert run_folder.steps(workdir) == [6]


def test_the_health_that_earlier_versions_did_not_save_begins_well(stopped):
  e, _ = copy(stopped)
  for client in e.shapes().clients:
    well = stored._healthy(client.health)
    assert (np.asarray(well.since) == -1).all()
    assert not np.asarray(well.faults).any() and not np.asarray(well.refused).any()
