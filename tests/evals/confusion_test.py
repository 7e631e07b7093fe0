"""Confusion matrices against plain loops, and what follows from them (U7)."""

import dataclasses

import ensembles
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.core.passes import eval_mode
from kdjax.evals import confusion
from kdjax.training import scores
from kdjax.types import ClientState, ConfigError, Shards

K, R, C, HEADS = 4, 2, ensembles.CLASSES, ("main", "aux1", "aux2")
CLIENTS = ((1, *ensembles.MLP), (3, *ensembles.WIDE))
GRAPH = dict(kind="chain", every=0, island=2, degree=2, edges=(), seed=0)
PRIMARY = ((0,), (1, 2), (3,), (0, 1, 2)) * R


def config(**changes):
  c = ensembles.config("mhd fresh", CLIENTS, graph=GRAPH, algo_teachers=1, replicas=R, **changes)
  c.evals = dict(accuracy=dict(every=4, batch=16), confusion=dict(every=4, batch=16))
  return c


def noise(primary):
  """Data whose 37 test images are noise: untrained clients differ in what they say."""
  source, shards = ensembles.data(K, R=R)
  pixels = np.random.default_rng(0).integers(256, size=(37, *ensembles.IMAGE), dtype=np.uint8)
  label = source.test.labels
  test = ensembles.ExampleSet(label, label, ensembles.IMAGE, pixels, None)
  return source._replace(test=test), dataclasses.replace(shards, primary=primary)


@pytest.fixture(scope="module")
def case():
  """(experiment on two by two devices, its results, state)."""
  with jax.enable_x64(True):
    e = ensembles.build(config(), data_=noise(PRIMARY), mesh=4)
    state = e.init()
    return e, e.evaluators["confusion"][1](state), state


def said(e, state, k, barred=()):
  """What client k says of every test image and by which head, never a barred class; i64[N, H]."""
  params, statistics = ensembles.by_client(e, state)[k]
  model = e.env.cohorts[0 if k % K == 0 else 1].model
  images = jax.vmap(e.view)(e.data.source.test.array)
  logits = np.array(eval_mode(model, ClientState(params, statistics, ()), images).logits)
  logits[..., list(barred)] = -np.inf
  return logits.argmax(-1)


@pytest.mark.parametrize("k", [0, 3, 6])
def test_matrices_count_every_test_example_once(case, k):
  e, results, state = case
  assert dict(e.env.mesh.shape) == {"client": 2, "data": 2}
  with jax.enable_x64(True):
    found = said(e, state, k)
  assert len(np.unique(found)) > 1
  for h, head in enumerate(HEADS):
    expected = np.zeros((C, C), int)
    for true, answer in zip(e.data.source.test.labels, found[:, h], strict=True):
      expected[true, answer] += 1
    assert results[k // K]["confusion"][head][k % K] == expected.tolist()


def test_accuracies_follow_from_the_matrices(case):
  e, results, _ = case
  count = np.bincount(e.data.source.test.labels, minlength=C)
  for result in results:
    for head in HEADS:
      for i in range(K):
        matrix = np.array(result["confusion"][head][i])
        assert matrix.sum(1).tolist() == count.tolist()
        local, remote, combined = (
          result[f"{kind}_accuracy"][head][i] for kind in ("local", "remote", "combined")
        )
        own = list(PRIMARY[i])
        others = [c for c in range(C) if c not in own]
        assert combined == pytest.approx(np.trace(matrix) / 37)
        assert local == pytest.approx(sum(matrix[c, c] for c in own) / count[own].sum())
        assert remote == pytest.approx(sum(matrix[c, c] for c in others) / count[others].sum())
        mean = local * count[own].sum() + remote * count[others].sum()
        assert combined == pytest.approx(mean / 37)


@pytest.mark.parametrize("k", [0, 3, 6])
def test_among_the_remote_classes_alone_a_client_cannot_name_its_own(case, k):
  e, results, state = case
  with jax.enable_x64(True):
    found = said(e, state, k, barred=PRIMARY[k])
  label = e.data.source.test.labels
  remote = ~np.isin(label, PRIMARY[k])
  for h, head in enumerate(HEADS):
    accuracy = results[k // K]["among_remote_accuracy"][head][k % K]
    assert accuracy == pytest.approx((found[remote, h] == label[remote]).mean())


def test_without_primary_labels_a_class_is_own_above_the_clients_mean():
  counts = np.array([[9, 1, 1, 1], [5, 5, 0, 0], [3, 2, 3, 4], [2, 2, 2, 2]])
  shards = Shards((), (), ((), (), (1,), ()), counts)
  own = [[1, 0, 0, 0], [1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]]
  assert confusion.own_classes(shards).tolist() == np.array(own, bool).tolist()


def test_what_some_client_has_no_classes_for_is_left_out_for_all():
  """Client 1 of the second replica owns every class; the log takes what remains."""
  primary = PRIMARY[:5] + ((0, 1, 2, 3),) + PRIMARY[6:]
  e = ensembles.build(config(dtype="float32"), data_=noise(primary))
  results = e.evaluators["confusion"][1](e.init())
  assert [set(r) for r in results] == [{"confusion", "local_accuracy", "combined_accuracy"}] * R
  means = scores.means(results, range(R))
  every = [results[r]["combined_accuracy"]["main"] for r in range(R)]
  assert means["combined_accuracy/main"] == pytest.approx(np.mean(every))
  assert not [key for key in means if key.startswith("confusion")]


def test_what_cannot_be_measured_is_refused():
  c = config(dtype="float32")
  c.evals.confusion.batch = 15
  with pytest.raises(ConfigError, match="evals.confusion.batch = 15.*multiple of .* 2"):
    ensembles.build(c, data_=noise(PRIMARY), mesh=4)
  e = ensembles.build(config(dtype="float32"), data_=noise(PRIMARY))
  population = dataclasses.replace(e.env.population, holders=3)
  travelling = dataclasses.replace(e, env=dataclasses.replace(e.env, population=population))
  with pytest.raises(ConfigError, match="evals = 'confusion': 4 models .* 3 holders"):
    confusion.make(travelling, batch=16)
  server = lambda state, images: {"core": jnp.zeros((R, len(images), 1, e.env.task.classes))}
  core = e.algorithm._replace(predict=server)
  with pytest.raises(ConfigError, match="tests no clients"):
    confusion.make(dataclasses.replace(e, algorithm=core), batch=16)
