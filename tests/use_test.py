"""Using a trained client needs nothing of the run's data, not even how much there was."""

import shutil
import sys

import ensembles
import jax
import numpy as np
import pytest

import kdjax
from kdjax.core.passes import eval_mode
from kdjax.ending import STOPPED
from kdjax.training import loop, start, stored
from kdjax.types import ConfigError

CASES = [
  ("mhd pool", {}),
  ("fedmd", {}),
  ("separate", dict(limit=100)),
  ("separate", dict(holdout=10)),
]


@pytest.mark.parametrize("method, changes", CASES, ids=["mhd pool", "fedmd", "limit", "holdout"])
def test_a_run_is_loaded_whatever_source_info_counts(method, changes, tmp_path):
  """A source is read whatever counts `source_info` gives, so five images for 124 will do."""
  c = ensembles.config(method, dtype="float32", **changes)
  c.source_info.update(train=5, test=1)
  c.mesh.steps_per_dispatch = 1
  e = ensembles.build(c)
  assert loop.run(e, tmp_path, command="", stop=lambda: True) == STOPPED
  client = kdjax.load(tmp_path, client=3)
  saved = stored.state(tmp_path, 1, e.shapes())
  images = e.data.source.test.array
  mine = jax.tree.map(lambda x: x[3], saved.clients[0])
  expected = jax.nn.softmax(eval_mode(e.env.cohorts[0].model, mine, images / 127.5 - 1).logits)
  said = client.predict(images)
  assert client.heads == e.env.heads and set(said) == set(client.heads)
  for h, head in enumerate(client.heads):
    np.testing.assert_allclose(said[head], expected[:, h], rtol=1e-5)


def test_a_run_with_an_evaluator_that_reads_the_data_is_loaded(tmp_path):
  c = ensembles.config("separate", dtype="float32")
  c.evals.linear_probe = dict(every=100, batch=16, limit=0, C=1.0, iterations=10)
  assert loop.run(ensembles.build(c), tmp_path, command="", stop=lambda: True) == STOPPED
  assert kdjax.load(tmp_path, client=3).heads == ("main",)


OWN = """
import dataclasses
from kdjax.algorithms import separate

@dataclasses.dataclass(frozen=True, kw_only=True)
class Hyper:
  lam: float

METHOD = separate.METHOD._replace(hyper=Hyper)
"""


@pytest.mark.parametrize(
  "name, file",
  [("loose", "loose.py"), ("folder.own", "folder/own.py"), ("whole", "whole/__init__.py")],
)
def test_a_module_of_ones_own_is_found_from_another_folder(name, file, tmp_path, monkeypatch):
  code, run = tmp_path / "code", tmp_path / "run"
  (code / file).parent.mkdir(parents=True)
  (code / file).write_text(OWN)

  def forget():
    sys.path.remove(str(code))
    for known in {name, name.split(".")[0]}:
      del sys.modules[known]

  monkeypatch.chdir(code)
  monkeypatch.setattr(sys, "path", [*sys.path])
  c = ensembles.config("separate", dtype="float32")
  c.algorithm, c.algo, c.mesh.steps_per_dispatch = f"{name}:METHOD", dict(lam=1.0), 1
  assert loop.run(ensembles.build(c), run, command="", stop=lambda: True) == STOPPED
  monkeypatch.chdir(tmp_path)
  forget()
  assert kdjax.load(run, client=3).heads == ("main",)
  forget()
  shutil.rmtree(code)
  with pytest.raises(ConfigError, match=f"no module '{name}' among the installed .*{code}"):
    kdjax.load(run, client=3)


def test_grey_images_need_no_channel_and_none_at_all_are_refused(tmp_path):
  images = np.random.default_rng(0).integers(256, size=(200, 4, 4), dtype=np.uint8)
  data = kdjax.arrays(train=(images, np.arange(200) % 2), test=(images[:8], np.arange(8) % 2))
  c = ensembles.config("separate", dtype="float32")
  client = kdjax.train(c, tmp_path, data=data, stop=lambda: True).client(0)
  said, same = client.predict(images[:3]), client.predict(images[:3, :, :, None])
  np.testing.assert_array_equal(said["main"], same["main"])
  with pytest.raises(ConfigError, match="images.shape = .*at least one"):
    client.predict(images[:0])


def test_looking_for_a_checkpoint_creates_nothing(tmp_path):
  """Neither a folder without any, nor a step that is not there, nor one that is being saved."""
  c = ensembles.config("separate", dtype="float32")
  c.mesh.steps_per_dispatch = 1
  assert loop.run(ensembles.build(c), tmp_path, command="", stop=lambda: True) == STOPPED
  (tmp_path / "checkpoints" / "1000.orbax-checkpoint-tmp-0").mkdir()
  weights = start.weights(tmp_path, 0, key="start")
  assert set(weights) == {"params", "model_state"}
  before = sorted(tmp_path.rglob("*"))
  with pytest.raises(ConfigError, match="step = 1000: there are checkpoints of 1$"):
    kdjax.load(tmp_path, client=0, step=1000)
  assert sorted(tmp_path.rglob("*")) == before
  other = tmp_path / "other"
  other.mkdir()
  (other / "config.json").write_bytes((tmp_path / "config.json").read_bytes())
  with pytest.raises(ConfigError, match="holds no checkpoint"):
    kdjax.load(other, client=0)
  assert [p.name for p in other.iterdir()] == ["config.json"]
