"""The forms of a step, timed and kept where `auto` looks for them."""

import dataclasses

import jax

import kdjax
from kdjax import api, forms, layout, measure
from kdjax.core import machine
from kdjax.forms import Form, Load, Measurement
from kdjax.hardware import target


def test_all_forms_are_timed_and_the_fastest_is_taken_afterwards(tmp_path, monkeypatch):
  config = kdjax.get_config("mhd_digits:separate", steps=200, replicas=1)
  monkeypatch.setattr(measure, "BLOCK", 0.0)
  monkeypatch.setattr(jax, "devices", lambda *_: DEVICES[:2])
  timings = measure.measure(config, runs=2)
  tried = {t.form for t in timings}
  assert tried == {Form(m, "direct", False) for m in ("vmap", "unroll", "scan")}  # 5 clients
  assert [t.median for t in timings] == sorted(t.median for t in timings)
  assert all(len(t.seconds) == 2 and min(t.seconds) > 0 for t in timings)
  assert "vmap, direct" in measure.table(timings)
  assert {t.roofline for t in timings} == {None}  # no file describes a CPU
  path = tmp_path / "own" / "measured.csv"
  measure.record(timings, path)
  measure.record(timings, path)  # replaces them
  kept = forms.recorded(path)
  assert len(kept) == 3 and {m.form for m in kept} == tried
  assert {m.load.clients for m in kept} == {5}
  asked = dict(local_map="auto", conv="auto", spreads=(False,))
  best = forms.choose(kept, "cpu", layout.device(), kept[0].load, **asked)
  near = [m for m in kept if m.milliseconds <= 1.1 * min(m.milliseconds for m in kept)]
  assert best in {m.form for m in near}


DEVICES = jax.devices()


def test_convolutions_have_more_forms_and_clients_are_spread_where_it_can_be():
  config = kdjax.get_config("mhd_cifar10")
  found = measure.candidates(config, convolves=True, sizes=[4])
  assert Form("vmap", "split", True) in found and Form("scan", "split", True) not in found
  assert len(found) == 2 * (3 + 2 + 2)


def test_own_rows_stand_beside_the_shipped_ones(tmp_path, monkeypatch):
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
  forms.measured.cache_clear()
  before = forms.measured()
  row = Measurement("cpu", "mine", Load(1e6, False, 5), Form("scan", "direct", False), 1.0)
  forms.keep([row], forms.own_table())
  forms.measured.cache_clear()
  assert forms.measured() == (*before, row)
  forms.measured.cache_clear()


def test_on_a_device_without_rows_the_cheapest_forms_are_timed_once(tmp_path, monkeypatch):
  """A CPU device that calls itself a GPU, and costs what an H100's data sheet says."""
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
  monkeypatch.setattr(measure, "BLOCK", 0.0)
  monkeypatch.setattr(jax, "devices", lambda *_: DEVICES[:1])
  monkeypatch.setattr(target, "of", lambda device: target.parse("h100:1"))
  forms.measured.cache_clear()
  config = kdjax.get_config("mhd_digits:separate", steps=200, replicas=1)
  said = []
  with machine.compiling_for("gpu"):
    timings = measure.contest(config, most=2, runs=2, say=said.append)
    again = measure.contest(config, most=2, runs=2, say=said.append)
    fixed = kdjax.get_config(config, **{"mesh.map": "scan"})
    assert measure.contest(fixed, most=2, runs=2) == []
  assert len(timings) == 2 and again == []
  assert all(t.roofline > 0 for t in timings) and "roofline ms" in measure.table(timings)
  prices = {line.partition(":")[0]: line for line in said if "roofline" in line}
  assert len(prices) == 3 and "scan, direct" in prices
  assert "scan, direct" not in {measure._words(t.form) for t in timings}  # five times the launches
  kept = forms.recorded(forms.own_table())
  assert {row.form for row in kept} == {t.form for t in timings}
  assert {row.backend for row in kept} == {"gpu"}
  forms.measured.cache_clear()


def test_on_a_cpu_there_is_no_contest():
  assert measure.contest(kdjax.get_config("mhd_digits"), most=3, runs=1) == []


def test_a_device_is_known_by_rows_of_a_load_like_its_own():
  row = Measurement("gpu", "card", Load(1e6, True, 8), Form("vmap", "direct", False), 1.0)
  knows = lambda *load: forms.knows([row], "gpu", "card", Load(*load))
  assert knows(2e6, True, 16) and knows(5e5, True, 4)
  assert not knows(3e6, True, 8) and not knows(1e6, True, 17) and not knows(1e6, False, 8)
  assert not forms.knows([row], "gpu", "other", row.load)


def test_a_run_is_built_anew_in_the_form_that_won(monkeypatch):
  """Where nobody names devices, and the run has not begun."""
  config = kdjax.get_config("mhd_digits:separate", replicas=1)
  won = Form("unroll", "direct", False)

  def contest(config, **options):
    monkeypatch.setattr(forms, "choose", lambda *_, **asked: won)
    return [won]

  monkeypatch.setattr(measure, "contest", contest)
  assert api.experiments(config, devices=DEVICES[:1])[""].env.local_map == "vmap"
  assert api.experiments(config, begun=True)[""].env.local_map == "vmap"
  assert api.experiments(config)[""].env.local_map == "unroll"


def test_where_nothing_fits_there_is_no_contest(monkeypatch):
  monkeypatch.setattr(
    target, "of", lambda device: dataclasses.replace(target.parse("h100:1"), memory=1.0)
  )
  forms.measured.cache_clear()
  config = kdjax.get_config("mhd_digits:separate", replicas=1)
  with machine.compiling_for("gpu"):
    assert measure.contest(config, most=2, runs=1) == []
    monkeypatch.setattr(target, "of", lambda device: None)
    assert measure.contest(config, most=2, runs=1) == []
