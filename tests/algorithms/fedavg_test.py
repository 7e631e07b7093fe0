"""FedAvg: every end is an average, what is tested is one, rounds by epochs, its FLOPs."""

import ensembles
import jax
import numpy as np
import pytest

from kdjax.core.costs import forward_flops
from kdjax.ending import DONE
from kdjax.training import loop, run_folder, schedule, stored
from kdjax.types import ConfigError

SIZES = np.array([20, 24, 30, 26])  # of ensembles.data


def build(**changes):
  return ensembles.build(ensembles.config("fedavg", **changes))


def mean(clients):
  """The weighted mean of what `by_client` says, by hand."""
  share = SIZES / SIZES.sum()
  params = [params for params, _ in clients]
  return jax.tree.map(lambda *x: sum(s * p for s, p in zip(share, x, strict=True)), *params)


def test_a_round_cut_short_ends_with_an_average_too():
  """Five batches with u = 3: the last two are followed by an average."""
  with jax.enable_x64(True):
    e = build(steps=5)
    assert [(v.phase.name, v.calls) for v in e.visits] == [
      ("train", 3),
      ("average", 1),
      ("train", 2),
      ("average", 1),
    ]
    before = ensembles.by_client(e, ensembles.train(e, calls=6)[0])
    after = ensembles.by_client(e, ensembles.train(e)[0])
    expected = mean(before)
    for params, _ in after:
      for x, y in zip(jax.tree.leaves(params), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-12, atol=1e-15)


def test_an_evaluation_within_a_round_is_of_the_average():
  with jax.enable_x64(True):
    e = build(steps=9, algo_local_steps=9)
    state, _ = ensembles.train(e, calls=4)
    own = ensembles.by_client(e, state)
    kernels = [p["Dense_0"]["kernel"] for p, _ in own]
    assert not np.allclose(kernels[0], kernels[1])
    p = mean(own)
    test = e.data.source.test
    pixels = test.array.reshape(37, -1) / 255 * 2 - 1
    x = np.tanh(pixels @ p["Dense_0"]["kernel"] + p["Dense_0"]["bias"])
    said = (x @ p["heads"]["main"]["kernel"] + p["heads"]["main"]["bias"]).argmax(-1)
    hits = [np.mean(said[test.labels == c] == c) for c in range(ensembles.CLASSES)]
    (found,) = e.evaluators["accuracy"][1](state)
    np.testing.assert_allclose(found["shared_accuracy"]["main"], [np.mean(hits)] * 4)


def test_rounds_by_epochs_are_passes_of_everyone_over_its_own_data():
  """E = 2 in batches of 8: 6, 6, 8 and 8 batches; who is done rests, its optimiser too."""
  epochs = dict(algo_local_steps=0, algo_local_epochs=2, dtype="float32")
  e = build(steps=16 + 3, **epochs)
  assert [(v.phase.name, v.calls) for v in e.visits] == [("train", 8), ("average", 1)] * 2 + [
    ("train", 3),
    ("average", 1),
  ]
  # Three batches of the third round: 20 are all that client 0 holds.
  last = np.array([20, 24, 24, 24])
  assert e.streams.processed(e.visits).tolist() == (4 * SIZES + last).tolist()
  state, _ = ensembles.train(e, calls=6)
  six = ensembles.by_client(e, state), jax.device_get(state.clients[0].opt_state)
  state, _ = ensembles.train(e, calls=8)
  eight = ensembles.by_client(e, state), jax.device_get(state.clients[0].opt_state)
  same = lambda a, b: all(map(np.array_equal, jax.tree.leaves(a), jax.tree.leaves(b)))
  assert [same(six[0][k], eight[0][k]) for k in range(4)] == [True, True, False, False]
  own = lambda tree, k: jax.tree.map(lambda x: x[k], tree)
  assert same(own(six[1], 0), own(eight[1], 0)) and not same(own(six[1], 2), own(eight[1], 2))


@pytest.mark.parametrize("steps, epochs", [(0, 0), (3, 2)])
def test_a_round_is_counted_in_one_unit(steps, epochs):
  with pytest.raises(ConfigError) as error:
    build(algo_local_steps=steps, algo_local_epochs=epochs)
  assert (error.value.key, error.value.value) == ("algo.local_steps", steps)
  assert str(epochs) in str(error.value)


@pytest.mark.parametrize(
  "changes, seen",
  [
    (dict(steps=5), 5 * 8),
    (dict(steps=0, rounds=2), 2 * 3 * 8),
    (dict(steps=0, rounds=2, algo_local_steps=0, algo_local_epochs=2), 4 * SIZES.mean()),
    (dict(steps=11, algo_local_steps=0, algo_local_epochs=2), (2 * 100 + 92) / 4),
  ],
)
def test_flops_are_three_passes_for_every_example(changes, seen):
  e = build(dtype="float32", **changes)
  found = e.algorithm.facts(e.visits[-1].round + 1)["flops"]
  (cohort,) = e.env.cohorts
  forward = forward_flops(cohort.model, cohort.template, e.env.task.image, "float32")
  multiply_adds = 36 * 8 + 8 * ensembles.CLASSES
  assert 2 * multiply_adds <= forward <= 2.5 * multiply_adds  # biases and activations beside them
  assert found == {"forward_edge": forward, "edge": pytest.approx(3 * forward * seen)}
  assert e.streams.processed(e.visits).mean() == seen


def test_a_finished_run_goes_on_within_the_round_that_it_cut_short(tmp_path):
  """Seven batches of u = 3, then twelve: none is lost, an average is added after the seventh."""

  def constant(steps):
    c = ensembles.config("fedavg", dtype="float32", steps=steps)
    c.optim.schedule = "constant"
    return ensembles.build(c)

  short, long = constant(7), constant(12)
  assert loop.run(short, tmp_path, command="") == DONE
  assert loop.run(long, tmp_path, command="") == DONE
  state, stepper = ensembles.train(long, calls=9)  # 3, average, 3, average, 1
  average = next(d for d in stepper.dispatches(0) if d.visit.phase.name == "average")
  state, _ = stepper.run(state, average)
  state = state._replace(calls=state.calls - 1)
  state, _ = ensembles.train(long, state, stepper=stepper)
  found = stored.state(tmp_path, run_folder.steps(tmp_path)[-1], long.shapes())
  for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(state), strict=True):
    np.testing.assert_array_equal(x, y)
  assert schedule.call_at(long.visits, 10, 7) == 9 and schedule.call_at(long.visits, 9, 7) == 9
