"""How a run is laid out on the hardware."""

import ensembles
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kdjax
from kdjax import experiment, forms, layout, plan
from kdjax.config import plain
from kdjax.core import machine
from kdjax.forms import Form, Load, Measurement
from kdjax.models.layers import conv
from kdjax.types import ConfigError

LOOP, SPREAD, GROUPED = (
  Form("scan", "direct", False),
  Form("scan", "direct", True),
  Form("vmap", "direct", False),
)
PRODUCTS = Form("vmap", "matmul", False)
ROWS = (
  Measurement("cpu", "mine", Load(1e9, True, 8), LOOP, 100.0),
  Measurement("cpu", "mine", Load(1e9, True, 8), SPREAD, 60.0),
  Measurement("cpu", "mine", Load(1e9, True, 8), GROUPED, 500.0),
  Measurement("cpu", "mine", Load(1e6, True, 8), LOOP, 4.0),
  Measurement("cpu", "mine", Load(1e6, True, 8), PRODUCTS, 2.0),
  Measurement("cpu", "mine", Load(1e6, True, 2), LOOP, 1.0),
  Measurement("cpu", "mine", Load(1e6, True, 2), PRODUCTS, 1.5),
)


def chosen(backend="cpu", work=1e9, convolves=True, clients=8, **asked):
  asked = dict(local_map="auto", conv="auto", spreads=(False, True)) | asked
  return forms.choose(ROWS, backend, "mine", Load(work, convolves, clients), **asked)


@pytest.mark.parametrize(
  "setup, form",
  [
    (dict(), SPREAD),
    (dict(spreads=(False,)), LOOP),
    (dict(local_map="vmap"), GROUPED),
    (dict(work=3e7, clients=7), PRODUCTS),  # nearer to 1e6 than to 1e9 on a log scale
    (dict(work=4e7, spreads=(False,)), LOOP),
    (dict(work=1e6, clients=3), LOOP),
    (dict(work=1e6, clients=16), PRODUCTS),
    (dict(work=1e6, clients=17), LOOP),  # more than twice what was measured: a loop
    (dict(work=0), PRODUCTS),  # a network without products is not refused
    (dict(local_map="unroll", conv="split"), Form("unroll", "split", True)),  # as asked, unmeasured
    (dict(backend="tpu", spreads=(False,)), LOOP),
    (dict(backend="tpu", spreads=(False,), conv="split"), Form("scan", "split", False)),
    (dict(convolves=False, spreads=(False,)), GROUPED),
  ],
)
def test_the_fastest_form_where_the_measured_setting_is_nearest(setup, form):
  assert chosen(**setup) == form


def test_among_equals_scan_is_taken():
  rows = (
    Measurement("cpu", "mine", Load(1e6, True, 8), PRODUCTS, 100.0),
    Measurement("cpu", "mine", Load(1e6, True, 8), LOOP, 109.9),
    Measurement("cpu", "mine", Load(1e6, True, 8), GROUPED, 100.1),
  )
  load, auto = Load(1e6, True, 8), dict(local_map="auto", conv="auto", spreads=(False,))
  assert forms.choose(rows, "cpu", "mine", load, **auto) == LOOP
  slower = rows[0], rows[1]._replace(milliseconds=110.1)
  assert forms.choose(slower, "cpu", "mine", load, **auto) == PRODUCTS
  unrolled = Measurement("cpu", "mine", Load(1e6, True, 8), Form("unroll", "direct", False), 99.0)
  assert forms.choose((unrolled, slower[0]), "cpu", "mine", load, **auto) == PRODUCTS


def test_times_of_two_machines_are_not_compared():
  rows = (
    Measurement("cpu", "slow", Load(1e6, True, 8), LOOP, 50.0),
    Measurement("cpu", "slow", Load(1e6, True, 8), PRODUCTS, 90.0),
    Measurement("cpu", "fast", Load(1e6, True, 8), LOOP, 4.0),
    Measurement("cpu", "fast", Load(1e6, True, 8), PRODUCTS, 2.0),
  )
  load, auto = Load(1e6, True, 8), dict(local_map="auto", conv="auto", spreads=(False,))
  form = {name: forms.choose(rows, "cpu", name, load, **auto) for name in ("slow", "fast", "other")}
  assert form == {"slow": LOOP, "fast": PRODUCTS, "other": LOOP}


@pytest.mark.parametrize("key", ["local_map", "conv"])
def test_an_unknown_form_is_refused(key):
  with pytest.raises(ConfigError, match="must be auto, "):
    chosen(**{key: "fast"})


def test_the_recorded_measurements_can_be_read_and_used():
  rows = forms.measured()
  for r in rows:
    auto = dict(local_map="auto", conv="auto", spreads=(False, True))
    best = forms.choose(rows, r.backend, r.device, r.load, **auto)
    same = [x for x in rows if x[:3] == r[:3]]
    (mine,) = [x.milliseconds for x in same if x.form == best]
    assert mine <= 1.05 * min(x.milliseconds for x in same)


def test_work_counts_multiply_adds():
  x, kernel, w = np.ones((2, 8, 8, 3)), np.ones((3, 3, 3, 5)), np.ones((4 * 4 * 5, 7))

  def forward(x, kernel, w):
    y = jnp.tanh(conv(x, kernel, 2, 1, "direct"))
    return jax.jit(lambda y: y.reshape(2, -1) @ w)(y)

  for fn in (forward, jax.checkpoint(forward)):
    jaxpr = jax.make_jaxpr(fn)(x, kernel, w).jaxpr
    assert layout.work(jaxpr) == 2 * 4 * 4 * 5 * 3 * 3 * 3 + 2 * 80 * 7


@pytest.mark.parametrize(
  "sizes, form, n",
  [((6,), SPREAD, 6), ((4, 8), SPREAD, 4), ((15,), SPREAD, 5), ((11,), SPREAD, 1), ((8,), LOOP, 1)],
)
def test_as_many_host_devices_as_the_clients_can_use(sizes, form, n):
  assert len(jax.devices()) == 8
  assert len(layout.default_devices(sizes, form)) == n


def test_clients_that_cannot_be_spread_take_no_spread_form(monkeypatch):
  monkeypatch.setattr(forms, "measured", lambda: ROWS)
  monkeypatch.setattr(layout, "device", lambda *_: "mine")
  options = dict(map="auto", conv="auto")
  assert layout.choose_form(options, Load(1e9, True, 11), sizes=(11,), devices=None) == LOOP
  assert layout.choose_form(options, Load(1e9, True, 8), sizes=(8,), devices=None) == SPREAD


@pytest.mark.parametrize(
  "form, changes, steps",
  [
    (LOOP, dict(), 20),
    (LOOP, dict(offered=False), 1),  # a user's own convolutions may be slow in a loop
    (LOOP, dict(offered=False, convolves=False), 20),
    (GROUPED, dict(), 1),
    (GROUPED, dict(convolves=False), 20),
    (LOOP, dict(work=1e9), 3),  # signals are heeded between dispatches: none takes long
    (LOOP, dict(work=1e11), 1),
  ],
)
def test_short_steps_share_a_dispatch(form, changes, steps):
  offered, load = changes.get("offered", True), Load(1e6, True, 8)
  load = load._replace(**{k: v for k, v in changes.items() if k != "offered"})
  assert layout.steps_per_dispatch(form, load, offered=offered) == steps


@pytest.mark.parametrize("form", [LOOP, GROUPED])
@pytest.mark.parametrize("work, steps", [(1e6, 20), (2e10, 6), (1e12, 1)])
def test_an_accelerators_dispatch_holds_many_steps_of_whatever_form(form, work, steps):
  """Eight clients of 2e10 multiply-adds: six steps of 1.6e11 are below 1e12."""
  with machine.compiling_for("gpu"):
    assert layout.steps_per_dispatch(form, Load(work, True, 8), offered=False) == steps


@pytest.mark.parametrize("n, own, share", [(1, 8, 1), (2, 4, 1), (8, 1, 1), (4, 2, 1), (6, 4, 3)])
def test_an_accelerators_load_is_its_own_share(n, own, share):
  """Eight clients on six devices: two devices of four clients each, three for every batch."""
  e = ensembles.build(
    ensembles.config("separate", ((8, *ensembles.MLP),), batch=12, dtype="float32")
  )
  given = e.config, e.env.cohorts, e.env.task.image, e.env.dtype
  whole = layout.load(*given, jax.devices()[:n])
  assert whole.clients == 8
  with machine.compiling_for("gpu"):
    found = layout.load(*given, jax.devices()[:n])
  assert found.clients == own and found.work == whole.work // share


@pytest.mark.parametrize(
  "backend, work, convolves, expected",
  [
    ("gpu", 2.6e9, True, GROUPED),  # a CIFAR ResNet-20 and 64 images: launches bind
    ("gpu", 1.9e12, True, LOOP),  # a ResNet-34 and 512 images of 224 pixels
    ("tpu", 2.6e9, True, LOOP),
    ("tpu", 1e6, False, GROUPED),
  ],
)
def test_where_nothing_was_measured_small_networks_on_a_gpu_are_one_program(
  backend, work, convolves, expected
):
  asked = dict(local_map="auto", conv="auto", spreads=(False,))
  assert forms.choose((), backend, "new", Load(work, convolves, 5), **asked) == expected


def test_blocks_are_a_loop_where_it_is_asked_for():
  config = plain(kdjax.get_config("mhd_cifar10:separate"))
  built = experiment.build(config, data=plan.described(config), devices=jax.devices()[:1])
  options = config["mesh"]
  assert not built.env.scan and not built.env.cohorts[0].model.scan
  cohort, image = built.env.cohorts[0], built.env.task.image
  loop = layout.lowered(cohort, "direct", options | {"blocks": "scan"})
  works = [layout.forward_work(c, image, 4, "float32") for c in (cohort, loop)]
  assert loop.model.scan and works[0] == works[1] > 0
  assert not layout.lowered(loop, "direct", options | {"blocks": "unroll"}).model.scan
