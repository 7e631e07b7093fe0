"""The first hour on an accelerator: parts in order, resumed, cut; weights compared."""

import json
import sys
import tarfile
import time

import numpy as np
import pytest

from benchmarks import __main__ as runner
from benchmarks import correct, count, first_hour, noise, settings
from benchmarks.first_hour import Part
from benchmarks.options import Options


def python(name, text, minutes=0.2):
  command = (sys.executable, "-c", text)
  return Part(name, minutes, command, command)


@pytest.fixture
def folders(tmp_path):
  return tmp_path / "out", tmp_path / "work"


def test_parts_that_ended_well_are_not_done_again_and_those_that_failed_come_last(folders):
  note = "open('order', 'a').write"
  bad = python("bad", f"{note}('b'); raise SystemExit(3)")
  every = (bad, python("good", f"{note}('g')"), python("late", f"{note}('l')", minutes=9))
  assert first_hour.do(every, *folders, 1) == {"bad": 3, "good": 0}  # no time for `late`
  assert first_hour.do(every, *folders, 10) == {"bad": 3, "good": 0, "late": 0}
  out, work = folders
  assert (work / "order").read_text() == "bglb"
  assert json.loads((out / "done.json").read_text())["bad"] == 3


def test_what_cannot_run_here_is_said_and_not_done(folders, capsys):
  part = python("claims", "raise SystemExit(3)")._replace(missing="no data")
  assert first_hour.do((part,), *folders, 1) == {}
  assert capsys.readouterr().out == "not run: claims, no data\n"
  missing = {part.name: part.missing for part in first_hour.parts("", "", "") if part.missing}
  assert missing == {"claims of MHD": "no data", "fedavg, K = 10": "no FedJAX"}


def test_a_part_that_takes_too_long_is_cut_and_what_it_left_comes_back(folders):
  text = "open('left.json', 'w').write('x'); print('begun', flush=True)"
  text += "; import time; time.sleep(60)"
  part = python("slow, K = 8", text, minutes=2 / 60)
  assert first_hour.do((part,), *folders, 1)["slow, K = 8"] != 0
  out, work = folders
  assert sorted(p.name for p in out.iterdir()) == ["done.json", "first_hour.tar.gz"]
  with tarfile.open(out / "first_hour.tar.gz") as tar:
    assert tar.extractfile("left.json").read() == b"x"
    assert b"begun" in tar.extractfile("slow_K_8.log").read()
    assert "done.json" in tar.getnames()


def test_a_part_is_asked_to_end_before_it_is_killed(folders):
  """As a suite does, which ends its contestants: they have sessions of their own."""
  child = "import time; time.sleep(600)"
  text = f"""
import signal, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", {child!r}], start_new_session=True)
open("child", "w").write(str(child.pid))
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
try:
  time.sleep(60)
finally:
  child.kill()
  child.wait()
  open("ended", "w").write("x")
"""
  part = python("polite", text, minutes=3 / 60)
  assert first_hour.do((part,), *folders, 1) == {"polite": 7}
  assert (folders[1] / "ended").exists()


def test_a_part_that_does_not_listen_is_killed(folders, monkeypatch):
  monkeypatch.setattr(first_hour, "GRACE", 0.5)
  text = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
  began = time.monotonic()
  assert first_hour.do((python("deaf", text, minutes=2 / 60),), *folders, 1) == {"deaf": -9}
  assert time.monotonic() - began < 20


def test_another_machine_goes_on_where_one_ended(folders, tmp_path, monkeypatch, capsys):
  out, work = folders
  note = lambda name: python(name, f"open({name!r}, 'w').write('x')")
  first_hour.do((note("one"),), out, work, 1)
  capsys.readouterr()
  monkeypatch.setattr(first_hour, "parts", lambda *_: (note("one"), note("two")))
  monkeypatch.setattr(first_hour, "absent", lambda *_: [])
  there = tmp_path / "there"
  argv = [f"--out={there}", f"--work={there}/work", f"--resume={out}/first_hour.tar.gz"]
  assert first_hour.main(argv) == 0
  said = capsys.readouterr().out
  assert "two: 0" in said and "one: 0" not in said and (there / "work" / "one").exists()


def test_the_largest_files_stay_behind_where_there_is_no_room(folders, monkeypatch):
  out, work = folders
  first_hour.begin(out, work)
  monkeypatch.setattr(first_hour, "MOST", 1000)
  for name, size in (("small", 300), ("large", 900), ("weights.npz", 1)):
    (work / name).write_bytes(bytes(size))
  first_hour.keep({}, out, work)
  with tarfile.open(out / "first_hour.tar.gz") as tar:
    assert sorted(tar.getnames()) == ["done.json", "records.md", "small"]


def test_what_is_missing_is_said_before_any_minute_is_spent(tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(first_hour, "NEEDED", ("json", "kdjax_nowhere", "kdjax_nowhere.part"))
  assert first_hour.main([f"--out={tmp_path}/out", f"--torch={sys.executable}"]) == 2
  said = capsys.readouterr().out
  assert said.startswith("missing: kdjax_nowhere, kdjax_nowhere.part")
  assert not (tmp_path / "out").exists()


def test_every_module_that_is_needed_is_here():
  assert first_hour.absent("", "") == []


def test_a_rehearsal_takes_the_same_parts():
  every = first_hour.parts("", "python", "python")
  small = [first_hour.rehearsed(part) for part in every]
  assert [part.name for part in small] == [f"quick {part.name}" for part in every]
  for part, one in zip(every, small, strict=True):
    assert one.command[:4] == part.command[:4]
    assert part.minutes + first_hour.GRACE / 60 < 9.5  # or none ever begins, or ends


def test_every_contest_that_is_named_exists_and_so_does_its_rehearsal(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)

  def configured(spec):  # in place of a process that counts what nobody looks at here
    settings.config(spec | {"clients": count.COUNTED})
    return 1.0

  monkeypatch.setattr(count, "step_flops", configured)
  first_hour.begin(tmp_path, tmp_path)  # `records.md`
  every = first_hour.parts("", "python", "python")
  for part in every + tuple(map(first_hour.rehearsed, every)):
    if part.command[2] == "benchmarks":
      asked = runner.parse(part.command[3:])
      options = Options(
        quick=asked.quick, clients=(int(asked.clients),), only=asked.only, pythons={}
      )
      vars(options)["gpu"] = not asked.quick  # a cached property
      contests = runner.load(asked.suites[0]).contests(options)
      assert len(list(contests)) == 1, part.command


def test_the_plan_is_measured_on_noise_in_the_shape_of_cifar_10():
  c, source = noise.get_config(), noise.load()
  assert c.source == "benchmarks.noise:load" and c.algorithm == "mhd"
  assert (len(source.train.labels), *source.train.shape) == (c.source_info.train, 32, 32, 3)
  assert source.classes == 10 and len(source.test.labels) == c.source_info.test


@pytest.mark.parametrize("name", correct.EXPERIMENTS)
def test_every_phase_of_every_method_is_compared_twice_and_mhd_has_a_teacher(name):
  visits = correct.build(name, "float32").visits
  calls, compared = {}, correct.length(visits)
  for visit in visits:
    of_it = max(0, min(visit.calls, compared - visit.start))
    calls[visit.phase.name] = calls.get(visit.phase.name, 0) + of_it
  assert compared <= 60 and min(calls.values()) >= 2
  if name.startswith("mhd"):
    refreshed = next(v.start for v in visits if v.phase.name == "refresh")
    taught = [v for v in visits if v.phase.name == "train" and refreshed < v.start < compared]
    assert len(taught) >= 2


@pytest.mark.parametrize(
  "other, expected", [([1.0, -4.0], 0.0), ([1.5, -4.0], 0.125), ([1.0, -3.0], 0.25)]
)
def test_a_difference_is_relative_to_the_largest_weight(other, expected):
  one = [np.array([1.0, -4.0]), np.array([[2.0]])]
  assert correct.difference(one, [np.array(other), np.array([[2.0]])]) == expected


def test_weights_that_are_no_numbers_differ():
  assert np.isnan(correct.difference([np.array([1.0])], [np.array([np.nan])]))


def test_what_exceeds_its_limit_is_named():
  pairs = {"float64": 1e-8, "float32": 1e-8, "bfloat16 beside float32": None}
  said = correct.exceeded({"mhd": pairs, "kd": {"float32": float("nan")}})
  assert [text.partition(":")[0] for text in said] == ["mhd, float64", "kd, float32"]
  assert correct.exceeded({"mhd_resnet": {"float32": 0.01}, "mhd": {"float32": 0.0009}}) == []
  assert len(correct.exceeded({"mhd_resnet": {"float64": 0.01}, "mhd": {"float32": 0.01}})) == 2
  assert correct.exceeded({"mhd": {pair: 0.0 for pair in correct.PAIRS}}) == []


@pytest.mark.parametrize("codes, expected", [((0, 0), 0), ((0, -9), 1), ((2, 0), 1)])
def test_a_way_that_was_killed_is_no_success(codes, expected, tmp_path, monkeypatch):
  end = {0: "0", -9: "__import__('os').kill(__import__('os').getpid(), 9)", 2: "exit(2)"}
  waiting = iter(codes)

  def start(way, options):
    return correct.subprocess.Popen([sys.executable, "-c", end[next(waiting)]])

  monkeypatch.setattr(correct, "WAYS", (("cpu", "float32"), ("", "float32")))
  monkeypatch.setattr(correct, "start", start)
  assert correct.main([f"--out={tmp_path}", "--only=kd"]) == expected


def test_the_same_calls_give_the_same_weights_and_what_is_missing_is_not_run(tmp_path):
  name = "separate"
  for way in (("cpu", "float32"), ("", "float32")):
    correct.work(tmp_path, *way, [name], calls=2)
  found = correct.collect(tmp_path, [name, "pairwise"])
  assert found[name] == {"float64": None, "float32": 0.0, "bfloat16 beside float32": None}
  assert set(found["pairwise"].values()) == {None}
