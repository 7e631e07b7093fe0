"""Where training starts: fresh, everyone alike, or at another run's weights."""

import json

import chex
import ensembles
import jax
import numpy as np
import pytest

import kdjax
from kdjax.ending import DONE, STOPPED
from kdjax.training import loop, run_folder, stored
from kdjax.training.start import weights
from kdjax.types import ConfigError

TWO = ((2, *ensembles.MLP), (2, *ensembles.WIDE))


def first(method="separate", **changes):
  e = ensembles.build(ensembles.config(method, dtype="float32", **changes))
  return ensembles.by_client(e, e.init())


def start(**changes):
  return dict(dict(common=False, workdir="", client=0, part=()), **changes)


def test_clients_start_apart_unless_told_to_start_alike():
  fresh, alike = first(clients=TWO), first(clients=TWO, start=start(common=True))
  for a, b in ((0, 1), (2, 3)):
    chex.assert_trees_all_equal(alike[a], alike[b])
    assert np.any(fresh[a][0]["Dense_0"]["kernel"] != fresh[b][0]["Dense_0"]["kernel"])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
  workdir = tmp_path_factory.mktemp("trained")
  e = ensembles.build(ensembles.config("separate", norm="batch", dtype="float32"))
  assert loop.run(e, workdir, command="") == DONE
  state, _ = ensembles.train(e)
  return workdir, ensembles.by_client(e, state)


def test_a_run_may_start_at_another_ones_weights(trained):
  workdir, expected = trained
  for k in range(4):
    given = first(norm="batch", start=start(workdir=str(workdir), client=2))
    chex.assert_trees_all_close(given[k], expected[2], rtol=1e-6)


def test_a_client_is_counted_over_architectures_and_replicas(tmp_path):
  """As `kdjax.load` counts: replica by replica, and the architectures within each."""
  c = ensembles.config("separate", dtype="float32", clients=TWO, replicas=2)
  e = ensembles.build(c)
  assert loop.run(e, tmp_path, command="", stop=lambda: True) == STOPPED
  for k in (1, 2, 5, 7):
    chex.assert_trees_all_equal(
      weights(tmp_path, k, key="start")["params"], kdjax.load(tmp_path, client=k).params
    )
  with pytest.raises(ConfigError, match=r"start.client = 8: must lie in 0\.\.7"):
    weights(tmp_path, 8, key="start")


def test_a_peers_clients_keep_their_numbers(tmp_path):
  c = ensembles.config("separate", dtype="float32", clients=TWO)
  e = ensembles.build(c)
  assert loop.run(e, tmp_path, command="", stop=lambda: True) == STOPPED
  record = json.loads((tmp_path / "config.json").read_text())
  (tmp_path / "config.json").write_text(json.dumps(record | {"here": [1, 3, 5, 6]}))
  saved = stored.state(tmp_path, run_folder.steps(tmp_path)[-1], e.shapes())
  expected = ensembles.by_client(e, saved)
  chex.assert_trees_all_equal(weights(tmp_path, 5, key="start")["params"], expected[2][0])
  with pytest.raises(ConfigError, match=r"start.client = 2: must be one of .* 1, 3, 5, 6"):
    weights(tmp_path, 2, key="start")


def test_or_at_those_of_one_module(trained):
  workdir, expected = trained
  fresh = first(norm="batch", seed=5)
  given = first(norm="batch", seed=5, start=start(workdir=str(workdir), part=("BatchNorm_0",)))
  for (params, statistics), (own, _) in zip(given, fresh, strict=True):
    chex.assert_trees_all_close(params["BatchNorm_0"], expected[0][0]["BatchNorm_0"], rtol=1e-6)
    chex.assert_trees_all_close(statistics, expected[0][1], rtol=1e-6)
    chex.assert_trees_all_equal(params["Dense_0"], own["Dense_0"])


def test_or_at_those_of_several_modules(trained):
  workdir, expected = trained
  fresh = first(norm="batch", seed=5)
  parts = ("Dense_0", "BatchNorm_0")
  given = first(norm="batch", seed=5, start=start(workdir=str(workdir), part=parts))
  for (params, _), (own, _) in zip(given, fresh, strict=True):
    for name in parts:
      chex.assert_trees_all_close(params[name], expected[0][0][name], rtol=1e-6)
    chex.assert_trees_all_equal(params["heads"], own["heads"])


@pytest.mark.parametrize(
  "changes, key, hint",
  [
    (dict(part=("heads", "Dense_7")), "start.part", "Dense_0"),
    (dict(client=9), "start.client", "0..3"),
    (dict(workdir="nowhere"), "start.workdir", "no checkpoint"),
  ],
)
def test_what_is_not_there_is_named(trained, changes, key, hint):
  with pytest.raises(ConfigError) as error:
    first(norm="batch", start=start(workdir=str(trained[0])) | changes)
  assert error.value.key == key and hint in str(error.value)


def test_weights_of_another_shape_are_refused(trained):
  with pytest.raises(ConfigError, match=r"start\.part") as error:
    first(norm="batch", clients=((4, *ensembles.WIDE),), start=start(workdir=str(trained[0])))
  assert "(36, 8)" in str(error.value) or "(8,)" in str(error.value)


def test_a_resumed_run_does_not_need_the_folder_it_started_from(trained, tmp_path):
  workdir, _ = trained
  copy = tmp_path / "copy"
  workdir.rename(copy)
  e = ensembles.build(
    ensembles.config("separate", norm="batch", dtype="float32", start=start(workdir=str(copy)))
  )
  assert loop.run(e, tmp_path / "run", command="", stop=lambda: True) == STOPPED
  copy.rename(workdir)
  assert loop.run(e, tmp_path / "run", command="") == DONE
  assert jax.tree.leaves(e.shapes().clients)[0].shape[0] == 4
