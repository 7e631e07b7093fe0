"""`--profile=N`: a trace of N steps, and what share of the peak they reached."""

import json
import types

import ensembles
import jax
import pytest

from kdjax.ending import DONE
from kdjax.hardware import target
from kdjax.hardware.cost import Cost
from kdjax.report import page, table
from kdjax.training import loop, profile
from kdjax.training.stepper import Dispatch, Stepper


def profiled(tmp_path, steps, **changes):
  e = ensembles.build(ensembles.config("separate", dtype="float32", steps=12, **changes))
  assert loop.run(e, tmp_path, command="", profile=steps) == DONE
  path = tmp_path / "profile.json"
  return json.loads(path.read_text()) if path.exists() else None


def test_steps_are_traced_and_the_device_is_named(tmp_path):
  found = profiled(tmp_path, 3)
  assert list((tmp_path / "profile").rglob("*.xplane.pb"))
  assert found["phase"] == "train" and found["steps"] >= 3 and found["seconds_a_step"] > 0
  assert found["device"] == jax.devices()[0].device_kind
  assert found["flops_a_step"] is None and found["share_of_peak"] is None  # no file describes a CPU
  assert "of the device's peak" not in page._facts(table.read_runs(tmp_path)[0])


def test_the_report_shows_the_share_of_the_peak(tmp_path, monkeypatch):
  slow = target.parse("h100:1")
  slow.peak.update(dict.fromkeys(slow.peak, 1e9))
  monkeypatch.setattr(target, "of", lambda device: slow)
  monkeypatch.setattr(
    "kdjax.training.profile.cost",
    lambda module, where: Cost(flops=2e6, arithmetic=2e-3, seconds={"memory": 3e-3}),
  )
  found = profiled(tmp_path, 2)
  assert found["flops_a_step"] == 2e6 and found["roofline_seconds_a_step"] == 3e-3
  assert found["share_of_peak"] == pytest.approx(2e-3 / found["seconds_a_step"])
  assert "of the device's peak" in page._facts(table.read_runs(tmp_path)[0])


def test_a_run_that_ends_before_says_so_and_nothing_is_traced_unasked(tmp_path, capsys):
  """Of six dispatches of two steps the first two warm up."""
  assert profiled(tmp_path / "short", 100) is None
  said = "--profile=100: the run ended after 8 of these steps, there is no profile.json"
  assert said in capsys.readouterr().err
  assert profiled(tmp_path / "none", 0) is None and not (tmp_path / "none" / "profile").exists()
  assert profiled(tmp_path / "whole", 3) and "--profile" not in capsys.readouterr().err


def test_a_phase_is_timed_by_its_own_calls_alone(tmp_path, monkeypatch):
  """Two phases of which one takes a second a step; between its calls a minute passes."""
  clock = types.SimpleNamespace(now=0.0, perf_counter=lambda: clock.now)
  monkeypatch.setattr(profile, "time", clock)
  for name in ("start_trace", "stop_trace"):
    monkeypatch.setattr(jax.profiler, name, lambda *_: None)
  e = ensembles.build(ensembles.config("fedgkt", dtype="float32"))
  one = profile.Profile(tmp_path, 6, Stepper(e))
  first = {v.phase.name: v for v in reversed(e.visits)}
  turn = [("edge", 1.0, 1), ("edge", 1.0, 1), ("drift", 9.0, 1), ("server", 0.25, 2)] * 3
  for name, seconds, count in turn:
    one.before({})
    clock.now += seconds * count
    one.after(Dispatch(first[name], 0, count), {})
    clock.now += 60.0  # an evaluation, a save
  found = json.loads((tmp_path / "profile.json").read_text())
  assert (found["phase"], found["steps"], found["seconds_a_step"]) == ("edge", 2, 1.0)
