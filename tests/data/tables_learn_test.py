"""Tables from end to end: trained on, evaluated, planned, loaded again; and what refuses them."""

import re
import tracemalloc
from pathlib import Path

import ensembles
import jax
import numpy as np
import pytest
from sklearn.datasets import load_wine

import kdjax
from kdjax import experiment, plan
from kdjax.config import plain
from kdjax.data import facts
from kdjax.data.example_set import ExampleSet, Source
from kdjax.training.stepper import Stepper
from kdjax.types import ConfigError

CENTRES = np.float32([[0, 0, 500], [3, 0, 500], [0, 3, 501]])


def rows(n, seed):
  """(features f32[n, 3], labels [n]): three clouds, one column on quite another scale."""
  rng = np.random.default_rng(seed)
  labels = rng.integers(3, size=n)
  return CENTRES[labels] + 0.3 * rng.standard_normal((n, 3)).astype(np.float32), labels


@pytest.fixture(scope="module")
def csv(tmp_path_factory):
  path = tmp_path_factory.mktemp("table") / "clouds.csv"
  lines = ["a,b,c,label,split"]
  for split, n, seed in (("train", 160, 0), ("test", 40, 1)):
    for (a, b, c), label in zip(*rows(n, seed), strict=True):
      lines.append(f"{a},{b},{c},cloud {label},{split}")
  path.write_text("\n".join(lines) + "\n")
  return f"csv:{path}"


def config(method, source="", clients=((4, *ensembles.MLP),), **changes):
  facts = dict(train=0, test=0, image=(0, 0, 0), classes=0)
  split = dict(partition="equal", public_share=0.25)
  normalise = dict(mean=("data",), std=("data",))
  more = dict(source=source, source_info=facts, normalise=normalise) | split
  more |= dict(steps=40, dtype="float32")
  return ensembles.config(method, clients, **more | changes)


def trained(c, data=None):
  """(the experiment, its mean accuracy over clients by head)."""
  stepper = Stepper(kdjax.build(c, data=data, devices=jax.devices()[:1]))
  state = stepper.init()
  while not stepper.done(state):
    state, _ = stepper.step(state)
  (result,) = stepper.experiment.evaluators["accuracy"][1](state)
  return stepper.experiment, np.mean(result["shared_accuracy"]["main"])


@pytest.mark.parametrize("method", ["mhd fresh", "fedavg"])
def test_a_table_is_learned_from(csv, method):
  e, accuracy = trained(config(method, csv))
  assert e.env.task.image == (3,) and e.env.task.classes == 3
  assert e.data.source.train.array.shape == (160, 3)
  assert accuracy > 0.9  # the clouds hardly touch; a third would be chance


def test_what_the_data_are_found_to_be_stands_in_the_config(csv):
  c = experiment.build(plain(config("separate", csv))).config
  assert c["source_info"]["image"] == [3] and c["source_info"]["classes"] == 3
  whole, _ = rows(160, 0)
  np.testing.assert_allclose(c["normalise"]["mean"], whole.mean(0), rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(c["normalise"]["std"], whole.std(0), rtol=1e-5)
  assert experiment.build(c).config == c  # so that the same command resumes


def test_arrays_in_memory_take_the_place_of_the_configs_source():
  data = kdjax.arrays(train=rows(160, 0), test=rows(40, 1), name="clouds")
  c = config("separate", "digits", source_info=dict(train=9, test=9, image=(8, 8, 1), classes=10))
  e, accuracy = trained(c, data)
  assert accuracy > 0.9 and e.config["source"] == "clouds"
  facts = dict(train=160, test=40, image=[3], classes=3)
  assert e.config["source_info"] == facts
  np.testing.assert_array_equal(e.data.source.test.array, rows(40, 1)[0])
  data = kdjax.arrays(train=rows(160, 0))
  with pytest.raises(ConfigError, match="holdout = 0: above 0: 'arrays' has no test set"):
    kdjax.build(c, data=data)
  c.holdout = 30
  assert len(kdjax.build(c, data=data).data.source.test.labels) == 30


def test_a_source_of_one_class_is_refused_by_name(tmp_path):
  x, y = np.zeros((9, 2)), np.zeros(9, int)
  np.savez(tmp_path / "t.npz", train_features=x, train_labels=y, test_features=x, test_labels=y)
  with pytest.raises(ConfigError, match=r"source = 'npz:.*t.npz': all labels are 0: .*two classes"):
    kdjax.build(config("separate", f"npz:{tmp_path}/t.npz"))


# The first is always 999, the second alternates between 980 and 1020: mean 1000, spread 20.
FAR = np.stack([np.full(160, 999.0), 1000 + 20 * (-1.0) ** np.arange(160)], 1)


@pytest.mark.parametrize(
  "mean, std, said",
  [
    (0.0, 2.0, "feature 1 of the training rows, once normalised, has mean 500 and standard devi"),
    (1000.0, 0.5, "once normalised, has mean 0 and standard deviation 40, far from 0 and 1"),
    (1000.0, 20.0, ""),
    (900.0, 10.0, ""),  # mean 10 and spread 2 are not yet far
    ("data", "data", ""),
  ],
)
def test_features_far_from_unit_scale_are_said_once(mean, std, said, capsys):
  c = config("separate", normalise=dict(mean=(mean,), std=(std,)))
  data = kdjax.arrays(train=(FAR, rows(160, 0)[1]), test=(FAR, rows(160, 0)[1]))
  for _ in range(2):
    kdjax.build(c, data=data)
  err = capsys.readouterr().err
  assert err.count("normalise.mean=('data',) and normalise.std=('data',)") == bool(said)
  assert said in err


def test_a_mean_far_from_zero_is_measured_to_a_share_of_the_spread():
  """Six digits of 448254.3 would shift all rows by a sixth of their spread."""
  x, y = rows(160, 0)
  far = np.stack([448_254.3 + 2 * x[:, 0], np.full(160, 98.6), x[:, 1]], 1).astype(np.float32)
  data = kdjax.arrays(train=(far, y), test=(far, y))
  found = kdjax.build(config("separate"), data=data).config["normalise"]
  mean, std = (getattr(far.astype(np.float64), how)(0) for how in ("mean", "std"))
  assert abs(found["mean"][0] - mean[0]) < 1e-5 * std[0]
  assert found["mean"][1:] == [float(f"{m:.6g}") for m in mean[1:]]  # as ever
  assert found["std"] == [float(f"{std[0]:.6g}"), 1.0, float(f"{std[2]:.6g}")]


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_statistics_are_those_of_the_whole_set_part_by_part(kind, monkeypatch):
  monkeypatch.setattr(facts, "CHUNK", 100)
  values = np.random.default_rng(0).integers(0, 256, (37, 5, 4, 3)).astype(kind)
  means, stds = facts._moments(values)
  np.testing.assert_allclose(means, values.mean((0, 1, 2), dtype=np.float64), rtol=1e-12)
  np.testing.assert_allclose(stds, values.std((0, 1, 2), dtype=np.float64), rtol=1e-12)


def test_measuring_images_needs_no_copy_of_them(monkeypatch):
  monkeypatch.setattr(facts, "CHUNK", 1 << 16)
  images = np.zeros((4000, 32, 32, 3), np.uint8)
  tracemalloc.start()
  try:
    facts._moments(images)
    assert tracemalloc.get_traced_memory()[1] < images.nbytes / 2
  finally:
    tracemalloc.stop()


def test_the_recipe_for_a_small_table_works(tmp_path, capsys):
  page = (Path(__file__).parents[2] / "docs" / "data.md").read_text()
  (code,) = (x for x in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "load_wine" in x)
  code = code.replace("1_000", "2").replace("runs/wine", str(tmp_path))
  found = {}
  exec(code, found)
  normalise = found["run"].config["normalise"]
  x, _ = load_wine(return_X_y=True)
  np.testing.assert_allclose(normalise["mean"], x.mean(0), rtol=0.1)  # of all but the holdout
  assert found["run"].config["source_info"]["train"] == len(x) == 178
  assert "far from 0 and 1" not in capsys.readouterr().err


def test_rows_that_are_read_as_needed_train_like_those_in_memory():
  x, y = rows(200, 0)
  sets = [ExampleSet(y[s], y[s], (3,), x[s], None) for s in (slice(160), slice(160, 200))]
  lazy = [ExampleSet(s.labels, s.strata, s.shape, None, s.array.__getitem__) for s in sets]
  numbers = dict(normalise=dict(mean=(1.0,), std=(2.0,)), source_resident_bytes=0)
  (one, a), (other, b) = (
    trained(config("separate", **numbers), Source("clouds", *s, 3)) for s in (sets, lazy)
  )
  assert one.data.source.train.read is None and other.data.source.train.array is None
  assert a == b


def test_a_table_is_planned_with_and_without_its_data(csv):
  text = plan.describe(config("separate", csv), devices=jax.devices()[:1])
  assert "data as float32" in text and "1.9 KiB, resident" in text  # 160 rows of 3 float32
  private = lambda text: text.split("private examples")[1].split("a client")[0]
  assert "about" not in private(text)
  facts = dict(train=160, test=40, image=(3,), classes=3)
  gone = config("separate", "csv:gone.csv", source_info=facts)
  text = plan.describe(gone, devices=jax.devices()[:1])
  assert "1.9 KiB, resident" in text and "about" in private(text)
  gone.source_info.train = 0
  with pytest.raises(ConfigError, match=r"gone.csv'.*(?s:.*)source_info must say \['train'\] too"):
    plan.describe(gone, devices=jax.devices()[:1])


def test_a_client_of_a_table_is_loaded_without_its_data(csv, tmp_path):
  kdjax.train(config("separate", csv, steps=2), tmp_path)
  e = experiment.build(plain(config("separate", csv)))
  client = kdjax.load(tmp_path, client=1)
  x = e.data.source.test.array
  assert client.predict(x)["main"].shape == (40, 3)
  np.testing.assert_allclose(client.embed(x[:5]), client.embed(x)[:5], rtol=1e-5)
  whole = np.rint(x)  # the same numbers in other types, all of which `kdjax.arrays` takes
  expected = client.logits(whole)["main"]
  for dtype in (np.float64, np.float16, np.int64):
    np.testing.assert_array_equal(client.logits(whole.astype(dtype))["main"], expected)
  with pytest.raises(ConfigError, match="images.dtype = '<U"):
    client.predict(x.astype(str))
  text = repr(client)
  assert text.startswith("Trained(heads=('main',), shape=(3,), dtype=dtype('float32'), values={")
  assert "forward" not in text and "kernel" not in text and len(text) < 250


@pytest.mark.parametrize(
  "changes, match",
  [
    (dict(augment=dict(kind="flip")), "augment.kind = 'flip': 'none': a table's features"),
    (dict(clients=((4, *ensembles.CNN),)), "clients = 'cnn': mlp, or your own: .* 3 features"),
    (dict(normalise=dict(mean=(0.0, 1.0), std=(1.0,))), "normalise.mean .*each of 3 features"),
    (dict(normalise=dict(mean=(0.0,), std=(0.0,))), r"normalise.std = \[0.0\].*above 0"),
    (dict(normalise=dict(mean=("dta",), std=(1.0,))), "normalise.mean"),
    (dict(public_source="digits"), r"'digits': .*\(8, 8, 1\), the private ones \(3,\)"),
    (dict(public_source="csv:gone"), "public_source = 'csv:gone': there is no file"),
  ],
)
def test_what_is_for_images_alone_refuses_a_table(csv, changes, match):
  with pytest.raises(ConfigError, match=match):
    experiment.build(plain(config("separate", csv, **changes)))
