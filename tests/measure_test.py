"""The forms of a step, timed and kept where `auto` looks for them."""

import jax

import kdjax
from kdjax import layout, measure
from kdjax.layout import Form, Load, Measurement


def test_all_forms_are_timed_and_the_fastest_is_taken_afterwards(tmp_path, monkeypatch):
  config = kdjax.get_config("mhd_digits:separate", steps=200, replicas=1)
  monkeypatch.setattr(measure, "BLOCK", 0.0)
  monkeypatch.setattr(jax, "devices", lambda *_: DEVICES[:2])
  timings = measure.measure(config, runs=2)
  forms = {t.form for t in timings}
  assert forms == {Form(m, "direct", False) for m in ("vmap", "unroll", "scan")}  # 5 clients
  assert [t.median for t in timings] == sorted(t.median for t in timings)
  assert all(len(t.seconds) == 2 and min(t.seconds) > 0 for t in timings)
  assert "vmap, direct" in measure.table(timings)
  path = tmp_path / "own" / "measured.csv"
  measure.record(timings, path)
  measure.record(timings, path)  # replaces them
  kept = layout.recorded(path)
  assert len(kept) == 3 and {m.form for m in kept} == forms
  assert {m.load.clients for m in kept} == {5}
  asked = dict(local_map="auto", conv="auto", spreads=(False,))
  best = layout.choose(kept, "cpu", layout.device(), kept[0].load, **asked)
  near = [m for m in kept if m.milliseconds <= 1.1 * min(m.milliseconds for m in kept)]
  assert best in {m.form for m in near}


DEVICES = jax.devices()


def test_convolutions_have_more_forms_and_clients_are_spread_where_it_can_be():
  config = kdjax.get_config("mhd_cifar10")
  found = measure.forms(config, convolves=True, sizes=[4])
  assert Form("vmap", "split", True) in found and Form("scan", "split", True) not in found
  assert len(found) == 2 * (3 + 2 + 2)


def test_own_rows_stand_beside_the_shipped_ones(tmp_path, monkeypatch):
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
  layout.measured.cache_clear()
  before = layout.measured()
  row = Measurement("cpu", "mine", Load(1e6, False, 5), Form("scan", "direct", False), 1.0)
  layout.keep([row], layout.own_table())
  layout.measured.cache_clear()
  assert layout.measured() == (*before, row)
  layout.measured.cache_clear()
