"""A folder is one run's: other examples are refused, other code is said."""

import importlib
import json
import sys

import jax
import numpy as np
import pytest

import kdjax
from kdjax import experiment, main
from kdjax.config import plain
from kdjax.data import dataset
from kdjax.training import fingerprint, run_folder
from kdjax.types import ConfigError

ONE = jax.devices()[:1]
MODULE = """
from flax import linen as nn
from kdjax.models.mlp import Model as MLP


class Mine(MLP):
  pass
"""


def examples(shift=0.0):
  rng = np.random.default_rng(0)
  x, y = rng.normal(size=(120, 5)).astype(np.float32), np.arange(120) % 3
  return kdjax.arrays(train=(x[:90] + shift, y[:90]), test=(x[90:], y[90:]))


def config(**changes):
  settings = {
    "clients": ((2, "mlp", {"hidden": (4,), "activation": "tanh"}),),
    "labels": 3,
    "steps": 4,
    "replicas": 1,
    "batch": 4,
    "public_batch": 4,
    "compare": (),
    "algo.teachers": 1,
    "algo.nu_emb": 0.0,
    "model.norm": "none",
    "log_every": 2,
    "save_every": 2,
    "evals.accuracy.every": 4,
    "partition": "equal",
  }
  return kdjax.get_config("mhd_digits", **(settings | changes))


def without_a_test_set():
  x, y = np.random.default_rng(0).normal(size=(120, 5)), np.arange(120) % 3
  return kdjax.arrays(train=(x, y))


def test_the_record_counts_what_the_source_holds_and_what_is_tested(tmp_path):
  """A plan of the resolved config then holds out of as many as the run did."""
  run = kdjax.train(config(holdout=30), tmp_path, data=without_a_test_set(), devices=ONE)
  info, examples = run.config["source_info"], run.record["examples"]
  assert (info["train"], info["test"], examples["test"]) == (120, 0, 30)
  assert sum(examples["private"]) + sum(examples["public"]) == 120 - 30
  planned = dataset.describe(plain(run.config), (0,)).source
  assert (len(planned.train.labels), len(planned.test.labels)) == (90, 30)


def test_a_run_that_counted_training_examples_as_test_examples_goes_on(tmp_path):
  """As kdjax 0.3 did of arrays without a test set; twice, since the first time saves too."""
  train = lambda **how: kdjax.train(
    config(holdout=30, **how.pop("changes", {})), tmp_path, data=without_a_test_set(), **how
  )
  asked = []
  stop = lambda: asked.append(1) or True
  earlier = dataset._counts
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(dataset, "_counts", lambda source: earlier(source) | {"test": 120})
    assert train(devices=ONE, stop=stop).summary is None
  assert json.loads((tmp_path / "config.json").read_text())["config"]["source_info"]["test"] == 120
  assert train(devices=ONE).summary["steps"] == 4
  assert train(devices=ONE, changes={"steps": 6}).summary["steps"] == 6


def test_counts_for_plans_may_change_with_every_resumption(tmp_path):
  """The run was locked out at the third call: its checkpoint was of the second one's counts."""
  counts = ({}, {"source_info.train": 7}, {"source_info.train": 9, "public_source_info.test": 3})
  for steps, changes in enumerate(counts, 4):
    made = config(source="digits", steps=steps, **changes)
    assert kdjax.train(made, tmp_path, devices=ONE).summary["steps"] == steps


def test_a_source_info_of_the_same_meaning_is_the_same_run(tmp_path):
  for steps, info in ((4, {}), (5, {"resize": False}), (6, {"image": (8, 8, 1), "grey": False})):
    made = config(source="digits", steps=steps, source_info=info)
    assert kdjax.train(made, tmp_path, devices=ONE).summary["steps"] == steps
  begun = run_folder.read(tmp_path)["config"]
  other = begun | {"source_info": begun["source_info"] | {"decoder": "opencv"}}
  with pytest.raises(ConfigError, match="source_info.decoder = 'opencv': .*begun with .*'pillow'"):
    run_folder.check_config(tmp_path, other)


def test_a_checkpoint_of_an_earlier_version_counts_in_what_plans_are_told(tmp_path):
  made = lambda steps: config(source="digits", steps=steps)
  earlier = property(lambda self: self.hashes(self.config)[1])
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(experiment.Experiment, "hash", earlier)
    kdjax.train(made(4), tmp_path, devices=ONE)
  assert kdjax.train(made(5), tmp_path, devices=ONE).summary["steps"] == 5


@pytest.mark.parametrize("done", [True, False])
def test_other_examples_are_refused_finished_or_not(tmp_path, done):
  kdjax.train(config(), tmp_path, data=examples(), stop=lambda: not done, devices=jax.devices()[:1])
  assert (kdjax.Run(tmp_path).summary is not None) == done
  with pytest.raises(ConfigError, match="workdir.*other examples"):
    kdjax.train(config(), tmp_path, data=examples(1.0), devices=jax.devices()[:1])
  run = kdjax.train(config(), tmp_path, data=examples(), devices=jax.devices()[:1])
  assert run.summary is not None


MEASURED = {"normalise.mean": ("data",), "normalise.std": ("data",), "holdout": 30}


def test_arrays_that_lack_or_are_others_are_blamed_before_what_they_do_not_fit(tmp_path):
  """`normalise` is measured on the data, and the config's own are digits."""
  x, y = np.random.default_rng(0).normal(size=(120, 5)), np.arange(120) % 3
  train = lambda data, **changes: kdjax.train(
    config(**(MEASURED | changes)), tmp_path, data=data, devices=ONE
  )
  mine = lambda x: kdjax.arrays(train=(x, y), name="mine")
  train(mine(x))
  with pytest.raises(ConfigError, match=r"workdir = .*arrays in memory, 'mine': .*data=\.\.\.\)"):
    train(None)
  for other in (x + 1, x[:, :4]):
    with pytest.raises(ConfigError, match="workdir.*begun with other examples, of 'mine': give th"):
      train(mine(other))
  with pytest.raises(ConfigError, match="holdout = 20: .* was begun with holdout = 30"):
    train(mine(x), **{"holdout": 20, "normalise.mean": (0.5,), "normalise.std": (0.5,)})
  with pytest.raises(ConfigError, match="seed = 7: .* was begun with seed = 0"):
    train(mine(x), seed=7)
  assert train(mine(x)).summary is not None


def test_the_command_line_says_that_a_run_was_begun_with_arrays(tmp_path):
  kdjax.train(config(), tmp_path, data=examples(), devices=ONE)
  with pytest.raises(ConfigError, match=r"was begun with arrays in memory, 'arrays': kdjax.train"):
    main.train(config(), tmp_path, devices=ONE, own=())


def test_a_folder_of_an_older_kdjax_goes_on(tmp_path):
  kdjax.train(config(), tmp_path, data=examples(), devices=jax.devices()[:1])
  path = tmp_path / "config.json"
  record = json.loads(path.read_text())
  assert len(record.pop("data")) == 64 and record.pop("code") == {}
  path.write_text(json.dumps(record))
  assert kdjax.train(config(), tmp_path, data=examples(1.0), devices=jax.devices()[:1]).summary


def test_code_that_has_changed_is_said(tmp_path, monkeypatch, capsys):
  monkeypatch.syspath_prepend(tmp_path)
  path = tmp_path / "some_network.py"
  path.write_text(MODULE)
  clients = ((2, "some_network:Mine", {"hidden": (4,), "activation": "tanh"}),)
  train = lambda: kdjax.train(
    config(clients=clients), tmp_path / "run", data=examples(), devices=jax.devices()[:1]
  )
  train()
  assert str(path) in fingerprint.code({"a": [{"b": "some_network:Mine"}], "c": "npz:x"})
  capsys.readouterr()
  train()
  assert "has changed" not in capsys.readouterr().err
  path.write_text(MODULE + "# mended\n")
  train()
  assert f"{path} has changed since" in capsys.readouterr().err
  sys.modules.pop("some_network")


METHOD = """
import dataclasses
from kdjax.algorithms import separate


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hyper:
  lam: float
  {}


METHOD = separate.METHOD._replace(hyper=Hyper)
"""


def test_a_hyper_parameter_that_came_since_has_its_default(tmp_path, monkeypatch):
  """A run goes on and is loaded; without a default, or with another value, it is refused."""
  monkeypatch.syspath_prepend(tmp_path)
  run = tmp_path / "run"

  def method(more=""):
    (tmp_path / "grows.py").write_text(METHOD.format(more))
    importlib.invalidate_caches()
    sys.modules.pop("grows", None)

  def train(steps, **algo):
    c = config(steps=steps)
    with c.unlocked(), c.ignore_type():
      c.algorithm, c.algo = "grows:METHOD", dict(lam=0.5, **algo)
    return kdjax.train(c, run, data=examples(), devices=jax.devices()[:1])

  method()
  train(4)
  method("temp: float")
  hint = "algo.temp = None: missing; .* a method gains later needs a default, for older runs"
  for asked in (lambda: train(8, temp=1.0), lambda: kdjax.Run(run).client(0)):
    with pytest.raises(ConfigError, match=hint):
      asked()
  method("temp: tuple = (1.0, 2.0); more: dict = dataclasses.field(default_factory=dict)")
  with pytest.raises(
    ConfigError, match="^algo.temp = .3.0, 4.0.: .* begun with algo.temp = .1.0, 2"
  ):
    train(8, temp=(3.0, 4.0))
  assert train(8).summary["steps"] == 8
  assert train(12, temp=(1.0, 2.0)).summary["steps"] == 12
  assert kdjax.Run(run).client(0).heads == ("main",)
  sys.modules.pop("grows")
