"""A plan for a machine that is not here: what is tried where it does not fit, and the words."""

import json
import types

import ensembles
import jax
import jax.numpy as jnp
import pytest

from kdjax import elsewhere, experiment, plan
from kdjax import elsewhere_tables as tables
from kdjax.config import plain
from kdjax.data import dataset
from kdjax.hardware import memory, target
from kdjax.types import ConfigError


@pytest.fixture
def compiler(monkeypatch):
  """CPU devices that pass for H100s; a program needs so many bytes for each image of a step.

  An evaluation needs `tested` for each test image.
  """
  made = types.SimpleNamespace(per_image=0.0, tested=0.0, tried=[], maps=[], devices=4, passes=[])
  source, shards = ensembles.data(4)
  data = dataset.Data(source, source.train, shards)
  build, lower = experiment.build, plan.evaluation

  def compiled(lowered, options):
    need = made.tested * made.passes[-1] if made.passes else made.per_image * made.batch
    return memory.Compiled(lowered.compile(), 0.0, need, 0.0)

  def evaluation(planned, batch):
    made.passes.append(batch)
    return lower(planned, batch)

  def built(config, **_):
    made.batch = config["batch"]
    made.tried.append((config["mesh"]["remat"], config["batch"], config["public_batch"]))
    made.maps.append(config["mesh"]["map"])
    return build(config, data=data, devices=jax.devices()[: made.devices])

  monkeypatch.setattr(target, "devices", lambda _: jax.devices()[: made.devices])
  monkeypatch.setattr(plan, "described", lambda config: data)
  monkeypatch.setattr(plan, "evaluation", evaluation)
  monkeypatch.setattr(elsewhere.memory, "compile", compiled)
  monkeypatch.setattr(elsewhere.experiment, "build", built)
  return made


def config(model=ensembles.MLP):
  return plain(ensembles.config("separate", ((4, *model),), dtype="float32"))


def test_what_fits_is_left_as_it_is(compiler):
  found = elsewhere.make(config(), "h100:4")
  assert found.fits and found.changed == () and len(compiler.tried) == 1
  assert found.layout["mesh"] == {"client": 4, "data": 1}


def test_batches_are_halved_until_it_fits(compiler):
  compiler.per_image = 25 * 2**30  # of 59.4 GiB: two images fit
  found = elsewhere.make(config(), "h100:4")
  assert found.fits and found.changed == ("batch=2", "public_batch=2")
  assert [batch for _, batch, _ in compiler.tried] == [8, 4, 2]


def test_clients_take_turns_before_a_batch_is_halved(compiler):
  """Two on a device, in one batched program, as a GPU runs small networks if nothing is asked."""
  compiler.devices, compiler.per_image = 2, 20 * 2**30
  left_open = config()
  left_open["mesh"]["map"] = "auto"
  found = elsewhere.make(left_open, "h100:2")
  assert found.fits and found.changed == ("mesh.map='scan'", "batch=2", "public_batch=2")
  assert compiler.maps == ["auto", "scan", "scan", "scan"]
  assert "another experiment" in tables.lines(found, 0.0)[0]


def test_networks_that_offer_it_compute_activations_again_first(compiler):
  compiler.per_image = 10 * 2**30
  found = elsewhere.make(config(("resnet", dict(depth=18, stem="small"))), "h100:4")
  assert found.changed == ("mesh.remat='on'", "batch=4", "public_batch=4")
  assert compiler.tried == [("auto", 8, 8), ("on", 8, 8), ("on", 4, 4)]


def test_an_evaluation_is_the_last_phase_in_a_batch_that_fits(compiler):
  compiler.tested = 10 * 2**30  # of 59.4 GiB: five images fit
  asked = config()
  asked["evals"]["accuracy"] |= dict(every=3, batch=16)
  found = elsewhere.make(asked, "h100:4")
  assert compiler.passes == [16, 8, 4] and found.fits
  assert found.changed == ("evals.accuracy.batch=4",)
  assert "with the same results" in tables.lines(found, 0.0)[0]
  train, measures = found.phases
  assert (train.name, measures.name) == ("train", "evaluate")
  assert measures.calls == 3 * 10  # after 3, 6 and 8 steps; 37 test images
  assert found.seconds == pytest.approx(8 * train.cost.time + 30 * measures.cost.time)
  alone = config()
  alone["evals"] = {}
  assert [phase.name for phase in elsewhere.make(alone, "h100:4").phases] == ["train"]


def test_what_never_fits_says_by_how_much(compiler):
  compiler.per_image = 100 * 2**30
  found = elsewhere.make(config(), "h100:4")
  assert not found.fits and found.layout["batch"] == 1
  (line,) = [line for line in tables.lines(found, 0.0) if "Does not fit" in line]
  there = "100.00 of 59.36 GiB per device, 0.00 of them training data, 40.65 too many"
  guess = "if all of it is shared, 2 times the devices would do: compile for them to know."
  assert line == f"Does not fit: {there}; {guess}"


def test_the_table_and_the_json_say_the_same(compiler):
  found = elsewhere.make(config(), "h100:4")
  record = elsewhere.record(found, 2.0)
  assert json.loads(json.dumps(record)) == record
  assert record["price"] == pytest.approx(record["hours"] * 4 * 2.0)
  train, measures = record["phases"]
  assert train["calls"] == 8 and train["launches"] > 0 and train["collectives"] == {}
  text = tables.render(found, 2.0)
  replayed = 8 * found.phases[0].cost.replayed + measures["calls"] * found.phases[1].cost.replayed
  assert f"by the roofline, {tables.duration(replayed)} from command buffers" in text
  assert 0 < replayed < found.seconds
  assert "4 x NVIDIA H100" in text and "Fits" in text and "not a clock" in text
  assert f"{train['launches']:,.0f}" in text


def test_every_form_of_a_step_has_its_price_the_cheapest_first(compiler):
  found = elsewhere.price_forms(config(), "h100:4")
  assert {form.local_map for form, _ in found} == {"vmap", "scan", "unroll"}
  times = [phase.cost.time for _, phase in found]
  assert times == sorted(times) and {phase.name for _, phase in found} == {"train"}
  lines = tables.forms(target.parse("h100:4"), found).splitlines()
  rows = [line for line in lines if ", direct" in line]
  for (form, phase), row in zip(found, rows, strict=True):
    assert f"{form.local_map}, direct" in row and f"{phase.cost.launches:,.0f}" in row
  (told,) = elsewhere.describe(config(), ["h100:4"], price=0.0, as_json=True, forms=True)
  priced = json.loads(told)["h100:4"]
  assert [row["roofline_seconds"] for row in priced] == times
  assert [row["local_map"] for row in priced] == [form.local_map for form, _ in found]


def test_a_form_that_does_not_fit_comes_last(compiler, monkeypatch):
  """A compiler that refuses the first form it is given."""
  compile, turn = elsewhere.memory.compile, iter(range(9))
  refused = memory.Compiled(None, 0.0, 2.0**40, 0.0)
  given = lambda *lowered: compile(*lowered) if next(turn) else refused
  monkeypatch.setattr(elsewhere.memory, "compile", given)
  found = elsewhere.price_forms(config(), "h100:4")
  assert [phase.cost is None for _, phase in found] == [False, False, True]
  assert "does not fit" in tables.forms(target.parse("h100:4"), found)


def test_resident_data_are_counted(compiler, monkeypatch):
  before = elsewhere.make(config(), "h100:4")
  monkeypatch.setattr(plan, "resident", lambda planned: 2**30)
  after = elsewhere.make(config(), "h100:4")
  assert after.need - after.resident == before.need - before.resident and after.resident == 2**30
  assert "1.00 of them training data" in tables.lines(after, 0.0)[0]
  assert elsewhere.record(after, 0.0)["bytes_of_resident_data"] == 2**30


@pytest.mark.parametrize("price", [-1.0, float("nan"), float("inf")])
def test_a_price_that_is_none_is_refused(price):
  with pytest.raises(ConfigError, match="--price"):
    next(elsewhere.describe(config(), ["h100:8"], price=price, as_json=False, forms=False))


def test_a_name_that_is_none_is_refused_before_the_first_is_compiled(compiler):
  with pytest.raises(ConfigError, match="v9"):
    next(elsewhere.describe(config(), ["h100:4", "v9:4"], price=0.0, as_json=False, forms=False))
  assert compiler.tried == []


def test_a_compiler_that_is_missing_is_said_before_the_first_compiles(compiler, monkeypatch):
  def devices(wanted):
    if wanted.kind == "tpu":
      raise ConfigError("--target", wanted.name, "not installed")
    return jax.devices()[:4]

  monkeypatch.setattr(target, "devices", devices)
  with pytest.raises(ConfigError, match="v5e:2x2"):
    next(elsewhere.describe(config(), ["h100:4", "v5e:2x2"], price=0.0, as_json=True, forms=False))
  assert compiler.tried == []


def test_plans_come_one_by_one(compiler):
  plans = elsewhere.describe(config(), ["h100:4", "a100:4"], price=0.0, as_json=False, forms=False)
  assert "H100" in next(plans) and len(compiler.passes) == 1
  assert "A100" in next(plans) and len(compiler.passes) == 2


def test_what_is_compiled_is_told_as_it_goes(compiler):
  """Each compilation when it begins and when it has ended, of every attempt."""
  compiler.per_image, said = 9 * 2**30, []  # of 59.4 GiB: six images fit
  found = elsewhere.make(config(), "h100:4", said.append)
  train, measures = (f"{phase.compiling:.0f} s" for phase in found.phases)
  assert said[0] == "h100:4: compiling train"
  assert said[1].startswith("h100:4: train compiled in ")
  assert said[2:] == [
    "h100:4: does not fit; once more with batch=4, public_batch=4",
    "h100:4: compiling train",
    f"h100:4: train compiled in {train}",
    "h100:4: compiling evaluate",
    f"h100:4: evaluate compiled in {measures}",
  ]


def test_a_plan_tells_of_every_target_and_form(compiler):
  said = []
  how = dict(price=0.0, as_json=True, say=said.append)
  next(elsewhere.describe(config(), ["h100:4", "a100:4"], forms=False, **how))
  assert {"h100:4: compiling train", "a100:4: compiling evaluate"} <= set(said)
  said.clear()
  next(elsewhere.describe(config(), ["h100:4"], forms=True, **how))
  told = [line for line in said if "compiled" not in line]
  one = ["h100:4: {}, direct", "h100:4: compiling train"]
  maps = ("vmap", "scan", "unroll")
  assert told == [line.format(name) for name in maps for line in one]


@pytest.mark.parametrize(
  "seconds, text",
  [
    (9e6, "2,500 h"),
    (90, "1.5 min"),
    (2.5, "2.5 s"),
    (0.0785, "78.5 ms"),
    (2e-9, "2 ns"),
    (0, "0 ns"),
  ],
)
def test_a_time_is_said_in_a_unit_that_reads_well(seconds, text):
  assert tables.duration(seconds) == text


def test_an_estimate_that_counts_a_loops_body_once_is_none():
  def said(fn):
    text = jax.jit(fn).lower(jnp.ones((3, 4, 4))).compile().as_text()
    program = types.SimpleNamespace(
      as_text=lambda: text, cost_analysis=lambda: {"optimal_seconds": 1.0}
    )
    compiled = memory.Compiled(program, 0.0, 0.0, 0.0)
    return elsewhere._phase("train", 1, 0.0, compiled, target.parse("v5e:2x2")).estimate

  turn = lambda x, y: (jnp.sin(x @ y), None)
  assert said(lambda xs: xs[0] @ xs[1]) == 1.0
  assert said(lambda xs: jax.lax.scan(turn, jnp.ones((4, 4)), xs)[0]) is None
