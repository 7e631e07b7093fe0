"""The forms of a step, timed and kept where `auto` looks for them."""

import dataclasses
import itertools
import types

import jax
import pytest

import kdjax
from kdjax import api, forms, layout, measure, timing
from kdjax.core import machine
from kdjax.forms import Form, Load, Measurement
from kdjax.hardware import memory, target
from kdjax.timing import Bounds
from kdjax.types import ConfigError

MANY = Bounds(compiling=1e9, timing=1e9, most=99, runs=2)
TWO = MANY._replace(most=2)


def three_clients():
  """The config of a small ensemble, whose step is soon compiled."""
  clients = ((3, "mlp", dict(hidden=(8,), activation="tanh")),)
  small = {"clients": clients, "labels": 3, "primary": "random", "model.norm": "none"}
  return kdjax.get_config("mhd_digits:separate", steps=200, replicas=1, **small)


def test_all_forms_are_timed_and_the_fastest_is_taken_afterwards(tmp_path, monkeypatch):
  config = three_clients()
  monkeypatch.setattr(timing, "BLOCK", 0.0)
  monkeypatch.setattr(jax, "devices", lambda *_: DEVICES[:2])
  said = []
  timings = measure.measure(config, MANY, say=said.append)
  tried = {t.form for t in timings}
  assert tried == {Form(m, "direct", False) for m in ("vmap", "unroll", "scan")}  # 3 clients
  assert [t.median for t in timings] == sorted(t.median for t in timings)
  assert all(len(t.seconds) == 2 and min(t.seconds) > 0 for t in timings)
  assert "vmap, direct" in measure.table(timings)
  assert {t.roofline for t in timings} == {None}  # no file describes a CPU
  for word in ("compiled in", "ms per step"):  # one line a form each, as it goes
    assert len([line for line in said if word in line]) == 3
  path = tmp_path / "own" / "measured.csv"
  measure.record(timings, path)
  measure.record(timings, path)  # replaces them
  kept = forms.recorded(path)
  assert len(kept) == 3 and {m.form for m in kept} == tried
  assert {m.load.clients for m in kept} == {3}
  asked = dict(local_map="auto", conv="auto", spreads=(False,))
  best = forms.choose(kept, "cpu", layout.device(), kept[0].load, **asked)
  near = [m for m in kept if m.milliseconds <= 1.1 * min(m.milliseconds for m in kept)]
  assert best in {m.form for m in near}


DEVICES = jax.devices()


def test_convolutions_have_more_forms_and_clients_are_spread_where_it_can_be():
  found = measure.candidates(Load(1e9, True, 4), sizes=[4])
  assert Form("vmap", "split", True) in found and Form("scan", "split", True) not in found
  assert len(found) == 2 * (3 + 2 + 2)


@pytest.mark.parametrize("backend, usual", [("gpu", "vmap"), ("tpu", "scan")])
def test_an_accelerator_tries_the_usual_form_first_and_no_copy_of_many_clients(backend, usual):
  with machine.compiling_for(backend):
    few, many = (measure.candidates(Load(1e9, True, k), sizes=[k]) for k in (8, 9))
  assert few[0] == many[0] == Form(usual, "direct", False)
  assert {f.local_map for f in few} == {"vmap", "scan", "unroll"}
  assert set(few) - set(many) == {Form("unroll", c, False) for c in ("direct", "matmul")}


def test_own_rows_stand_beside_the_shipped_ones(tmp_path, monkeypatch):
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
  forms.measured.cache_clear()
  before = forms.measured()
  row = Measurement("cpu", "mine", Load(1e6, False, 5), Form("scan", "direct", False), 1.0)
  forms.keep([row], forms.own_table())
  forms.measured.cache_clear()
  assert forms.measured() == (*before, row)
  forms.measured.cache_clear()


@pytest.fixture
def card(tmp_path, monkeypatch):
  """A CPU device that calls itself a GPU, and costs what an H100's data sheet says."""
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
  monkeypatch.setattr(timing, "BLOCK", 0.0)
  monkeypatch.setattr(jax, "devices", lambda *_: DEVICES[:1])
  monkeypatch.setattr(target, "of", lambda device: target.parse("h100:1"))
  forms.measured.cache_clear()
  with machine.compiling_for("gpu"):
    yield three_clients()
  forms.measured.cache_clear()


def test_on_a_device_without_rows_the_cheapest_forms_are_timed_once(card):
  said = []
  timings = measure.contest(card, TWO, say=said.append)
  again = measure.contest(card, TWO, say=said.append)
  fixed = kdjax.get_config(card, **{"mesh.map": "scan"})
  assert measure.contest(fixed, TWO) == []
  assert len(timings) == 2 and again == []
  assert all(t.roofline > 0 for t in timings) and "roofline ms" in measure.table(timings)
  prices = {line.partition(":")[0]: line for line in said if "roofline" in line}
  assert len(prices) == 3 and "scan, direct" in prices
  assert "scan, direct" not in {timing.words(t.form) for t in timings}  # three times the launches
  kept = forms.recorded(forms.own_table())
  assert {row.form for row in kept} == {t.form for t in timings}
  assert {row.backend for row in kept} == {"gpu"}


def test_where_nothing_can_be_recorded_there_is_no_contest(card, tmp_path, monkeypatch):
  """The cache is said to lie in a folder that is a file."""
  (tmp_path / "file").write_text("")
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
  said = []
  assert measure.contest(card, TWO, say=said.append) == []
  assert "measured.csv cannot be written (Not a directory)" in said[-1]
  with pytest.raises(ConfigError, match="--record"):
    measure.measure_cli(["--config=mhd_digits", "--record"])


def test_when_time_is_over_what_is_timed_is_kept(card):
  """No second compilation fits beside the first; one block is always taken."""
  said = []
  (only,) = measure.contest(card, Bounds(1e-3, 1e-3, most=3, runs=5), say=said.append)
  assert only.form == Form("vmap", "direct", False) and len(only.seconds) == 1
  assert len([line for line in said if "left out" in line]) == 2
  (kept,) = forms.recorded(forms.own_table())
  assert kept.form == only.form and kept.milliseconds == pytest.approx(1e3 * only.median, rel=1e-3)


def test_every_time_is_kept_at_once(card, monkeypatch):
  """A contest that dies in its third block leaves two rows."""
  block, taken = timing._block, []

  def dies(*arguments):
    if len(taken) == 2:
      raise KeyboardInterrupt
    taken.append(block(*arguments))
    return taken[-1]

  monkeypatch.setattr(timing, "_block", dies)
  with pytest.raises(KeyboardInterrupt):
    measure.contest(card, MANY)
  rows = forms.recorded(forms.own_table())
  assert sorted(row.milliseconds for row in rows) == pytest.approx(
    sorted(1e3 * seconds for seconds in taken), rel=1e-3
  )


FULL = jax.errors.JaxRuntimeError(
  "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 17179869184 bytes."
)


def refuses(fn, where):
  """The function, which raises at its calls of these numbers."""
  calls = itertools.count()

  def called(*arguments, **options):
    if next(calls) in where:
      raise FULL
    return fn(*arguments, **options)

  return called


def test_a_form_that_a_card_cannot_compile_for_want_of_memory_is_left_out(card, monkeypatch):
  compile = memory.compile
  turn = itertools.count()
  lowered = types.SimpleNamespace(compile=refuses(None, {0}))
  monkeypatch.setattr(
    timing.memory, "compile", lambda given: compile(given if next(turn) else lowered)
  )
  timings = measure.contest(card, MANY)
  assert {t.form.local_map for t in timings} == {"scan", "unroll"}  # vmap came first


@pytest.mark.parametrize("call, left", [(0, 2), (4, 2)])
def test_a_form_that_does_not_fit_while_it_runs_is_left_out(card, monkeypatch, call, left):
  """In its first block or a later one; the state that is lost with it is made anew."""
  monkeypatch.setattr(timing, "_block", refuses(timing._block, {call}))
  timings = measure.contest(card, MANY)
  assert len(timings) == left and all(len(t.seconds) == 2 for t in timings)


def test_another_error_ends_the_contest(card, monkeypatch):
  def breaks(*_):
    raise jax.errors.JaxRuntimeError("INTERNAL: it broke")

  monkeypatch.setattr(timing, "_block", breaks)
  with pytest.raises(jax.errors.JaxRuntimeError, match="it broke"):
    measure.contest(card, MANY)


def test_forms_share_resident_sets_and_one_state(card):
  first = measure.experiment.build(card, devices=DEVICES[:1])
  shared, load = timing.Shared(), Load(1e6, False, 3)
  tried = measure.candidates(load, sizes=[3])
  ready = timing.compiled(measure.plain(card), first, tried, shared, 1e9, say=lambda text: None)
  assert len({id(one.stepper.tables) for one in ready}) == 1
  assert ready[0].stepper.tables is not None and len(ready) == 3
  timing.timed(ready, load, shared, TWO, say=lambda text: None, keep=lambda timing: None)
  assert len(shared.states) == 1


def test_on_a_device_without_a_file_the_first_forms_are_timed(card, monkeypatch):
  monkeypatch.setattr(target, "of", lambda device: None)
  said = []
  timings = measure.contest(card, TWO, say=said.append)
  assert {t.form.local_map for t in timings} == {"vmap", "scan"}
  assert {t.roofline for t in timings} == {None}
  assert not any(line.startswith("unroll") for line in said)


def test_on_a_cpu_there_is_no_contest():
  assert measure.contest(kdjax.get_config("mhd_digits"), TWO) == []


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

  def contest(config, bounds, **options):
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
  config = three_clients()
  with machine.compiling_for("gpu"):
    assert measure.contest(config, TWO) == []
