"""The first hour on an accelerator: parts in order, resumed, cut; weights compared."""

import json
import sys

import numpy as np
import pytest

from benchmarks import __main__ as runner
from benchmarks import correct, first_hour
from benchmarks.first_hour import Part
from benchmarks.options import Options


def python(name, text, minutes=0.2, keep=()):
  command = (sys.executable, "-c", text)
  return Part(name, minutes, command, command, keep)


def test_parts_that_ended_well_are_not_done_again_and_those_that_failed_come_last(tmp_path):
  note = f"open('{tmp_path}/order', 'a').write"
  bad = python("bad", f"{note}('b'); raise SystemExit(3)")
  every = (bad, python("good", f"{note}('g')"), python("late", f"{note}('l')", minutes=9))
  assert first_hour.do(every, tmp_path, 1) == {"bad": 3, "good": 0}  # no time for `late`
  assert first_hour.do(every, tmp_path, 10) == {"bad": 3, "good": 0, "late": 0}
  assert (tmp_path / "order").read_text() == "bglb"
  assert json.loads((tmp_path / "done.json").read_text())["bad"] == 3


def test_a_part_that_takes_too_long_is_cut_and_what_it_left_is_kept(tmp_path):
  left = tmp_path / "left.json"
  text = f"open('{left}', 'w').write('x'); import time; print('begun', flush=True); time.sleep(60)"
  part = python("slow", text, minutes=2 / 60, keep=(left,))
  assert first_hour.do((part,), tmp_path / "out", 1)["slow"] != 0
  assert (tmp_path / "out" / "slow left.json").read_text() == "x"
  assert "begun" in (tmp_path / "out" / "slow.log").read_text()


def test_a_rehearsal_takes_the_same_parts(tmp_path):
  every = first_hour.parts(tmp_path, "", "python")
  small = [first_hour.rehearsed(part) for part in every]
  assert [part.name for part in small] == [part.name for part in every]
  for part, one in zip(every, small, strict=True):
    assert one.command[:4] == part.command[:4]


def test_every_contest_that_is_named_exists_and_so_does_its_rehearsal(tmp_path):
  every = first_hour.parts(tmp_path, "", "python")
  for part in every + tuple(map(first_hour.rehearsed, every)):
    if part.command[2] == "benchmarks":
      asked = runner.parse(part.command[3:])
      options = Options(
        quick=asked.quick, clients=(int(asked.clients),), only=asked.only, pythons={}
      )
      vars(options)["gpu"] = not asked.quick  # a cached property
      assert list(runner.load(asked.suites[0]).contests(options)), part.command


@pytest.mark.parametrize(
  "other, expected", [([1.0, -4.0], 0.0), ([1.5, -4.0], 0.125), ([1.0, -3.0], 0.25)]
)
def test_a_difference_is_relative_to_the_largest_weight(other, expected):
  one = [np.array([1.0, -4.0]), np.array([[2.0]])]
  assert correct.difference(one, [np.array(other), np.array([[2.0]])]) == expected


def test_the_same_calls_give_the_same_weights_and_what_is_missing_is_not_run(tmp_path):
  name = "mhd_digits:separate"
  for way in (("cpu", "float32"), ("", "float32")):
    correct.work(tmp_path, *way, [name], calls=2)
  found = correct.collect(tmp_path, [name, "pairwise_digits"])
  assert found[name] == {"float64": None, "float32": 0.0, "bfloat16 beside float32": None}
  assert set(found["pairwise_digits"].values()) == {None}
