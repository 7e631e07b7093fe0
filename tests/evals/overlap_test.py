"""Prediction intersection and consensus against plain loops, and what follows from them (U4)."""

import dataclasses

import ensembles
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import regression

from kdjax.evals import overlap
from kdjax.training import scores
from kdjax.training.stepper import Stepper
from kdjax.types import ConfigError

R, K, SIZES, HOLDER = 2, 3, (10, 8, 13), 2
KEYS = ("overlap_test", "overlap_core", "overlap_edge")


def config(**changes):
  changes = dict(algo_ensemble=2, algo_noisy=()) | changes
  c = regression.config("async edge", K, rounds=2, replicas=R, **changes)
  c.evals = dict(accuracy=dict(every=0, batch=8), overlap=dict(every=0, batch=8))
  return c


@pytest.fixture(scope="module")
def case():
  """(experiment on two by two devices, its results, state) of untrained models, all different."""
  with jax.enable_x64(True):
    e = ensembles.build(config(), data_=ensembles.data(K, SIZES, R=R), mesh=4)
    state = e.init()
    state = state._replace(server={"holder": jnp.asarray(HOLDER, jnp.int32)})
    results = Stepper(e).evaluate(state)
    return e, results, jax.device_get(state)


def right(e, state, r, images, places):
  """Whether teacher and student of replica r are right about these images; two bool[N]."""
  x = np.asarray(jax.vmap(e.view)(images.array[places]), float).reshape(len(places), -1)
  x = np.concatenate([x, np.ones((len(x), 1))], 1)
  take = lambda g, k: regression.weights(jax.tree.map(lambda x: x[k], state.clients[g].params))
  teacher = sum(regression.softmax(x @ take(1, 2 * r + m)) for m in range(2)) / 2
  student = x @ take(0, r)
  return [said.argmax(1) == images.labels[places] for said in (teacher, student)]


@pytest.mark.parametrize("r", range(R))
@pytest.mark.parametrize("key", KEYS)
def test_shares_count_every_example_once(case, key, r):
  e, results, state = case
  assert dict(e.env.mesh.shape) == {"client": 2, "data": 2}
  private = e.data.shards.private[r * K : r * K + K]
  images, places = {
    "overlap_test": (e.data.source.test, np.arange(37)),
    "overlap_core": (e.data.source.train, private[0]),
    "overlap_edge": (e.data.source.train, private[HOLDER]),
  }[key]
  T, S = right(e, state, r, images, places)
  n, found = len(places), results[r][key]
  assert not np.array_equal(T, S)
  assert found["teacher"] == pytest.approx(T.sum() / n)
  assert found["student"] == pytest.approx(S.sum() / n)
  assert found["mutual"] == pytest.approx((T & S).sum() / n)
  assert found["exclusive"] == pytest.approx((S & ~T).sum() / n)
  assert found["union"] == pytest.approx((T | S).sum() / n)
  assert found["consensus"] == pytest.approx((T & S).sum() / (T | S).sum())


def test_shares_add_up_and_the_models_are_those_that_accuracy_tests(case):
  for result in case[1]:
    assert set(result["shared_accuracy"]) == {"core/main", "edge/main"}
    for key in KEYS:
      both = result[key]
      assert both["student"] == pytest.approx(both["mutual"] + both["exclusive"])
      assert both["teacher"] + both["student"] == pytest.approx(both["union"] + both["mutual"])
      assert 0 <= both["consensus"] <= 1


def test_everything_is_logged(case):
  logged = scores.means(case[1], range(len(case[1])))
  names = ("teacher", "student", "mutual", "exclusive", "union", "consensus")
  assert {f"{key}/{name}" for key in KEYS for name in names} <= set(logged)
  every = [result["overlap_edge"]["consensus"] for result in case[1]]
  assert logged["overlap_edge/consensus"] == pytest.approx(np.mean(every))


@pytest.mark.parametrize(
  "counts, consensus, exclusive",
  [((6, 6, 6), 1, 0), ((6, 6, 5), 5 / 7, 0.1), ((6, 2, 0), 0, 0.2), ((0, 0, 0), 1, 0)],
)
def test_consensus_is_1_exactly_for_equal_sets(counts, consensus, exclusive):
  found = overlap.summarise(counts, 10)
  assert found["consensus"] == pytest.approx(consensus)
  assert found["exclusive"] == pytest.approx(exclusive)


def test_a_distillation_is_seen_before_and_after_and_the_first_edge_later_on():
  """With `track`: the same teacher and the core it found, the first edge's models and the core."""
  c = config(algo_track=True, algo_memory=1, dtype="float32")
  e = ensembles.build(c, data_=ensembles.data(K, SIZES, R=R))
  stepper, found = Stepper(e), []
  state = stepper.init()
  for one in stepper.dispatches(0):
    state, _ = stepper.run(state, one)
    if one.visit.phase.name in ("collect", "watch") and one.ends_visit:
      found.append(stepper.evaluate(state)[0])
  begun, ended, begun2, ended2 = found
  for where in ("test", "core", "edge"):
    now, before = (f"overlap_{where}{pair}" for pair in ("", "_before"))
    assert ended[before] == begun[now] and ended2[before] == begun2[now]
    assert ended[now]["teacher"] == ended[before]["teacher"] == begun[now]["teacher"]
    assert ended[f"overlap_{where}_first"] == ended[now]  # the first edge is the last one yet
  first, was = ended2["overlap_test_first"], begun["overlap_test"]
  assert (
    first["teacher"] == was["teacher"] and first["student"] == ended2["overlap_test"]["student"]
  )
  assert set(ended2["shared_accuracy"]) >= {"before/main", "first/main", "member1/main"}


def test_before_the_first_round_there_is_no_teacher():
  e = ensembles.build(config(dtype="float32"), data_=ensembles.data(K, SIZES, R=R))
  assert e.evaluators["overlap"][1](e.init()) == [{}, {}]


def test_what_cannot_be_measured_is_refused():
  c = ensembles.config("separate", dtype="float32")
  c.evals = dict(overlap=dict(every=0, batch=8))
  with pytest.raises(ConfigError, match="evals = 'overlap': this method has no teacher"):
    ensembles.build(c)
  e = ensembles.build(config(dtype="float32"), data_=ensembles.data(K, SIZES, R=R))
  env = dataclasses.replace(e.env, mesh=jax.make_mesh((1, 2), ("client", "data")))
  with pytest.raises(ConfigError, match="evals.overlap.batch = 7.*multiple of .* 2"):
    overlap.make(dataclasses.replace(e, env=env), batch=7, every=0)
