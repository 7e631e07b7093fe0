"""What the log has of evaluators' numbers, by hand."""

import numpy as np
import pytest

from kdjax.training import scores

RESULTS = [
  {"shared_accuracy": {"main": [0.5, 0.0, 0.7], "server/main": [0.9]}, "drift": {"all": 0.25}},
  {"shared_accuracy": {"main": [0.1, 1.0, 0.3], "server/main": [0.7]}, "drift": {"all": 0.75}},
]


def test_means_are_over_clients_and_seeds():
  found = scores.means(RESULTS, (4, 5))
  values = [0.5, 0.0, 0.7, 0.1, 1.0, 0.3]
  expected = {
    "shared_accuracy/main": np.mean(values),
    "shared_accuracy/main/std": np.std(values),
    "shared_accuracy/main/seed4": 0.4,
    "shared_accuracy/main/seed5": 1.4 / 3,
    "shared_accuracy/server/main": 0.8,
    "shared_accuracy/server/main/std": 0.1,
    "shared_accuracy/server/main/seed4": 0.9,
    "shared_accuracy/server/main/seed5": 0.7,
    "drift/all": 0.5,
    "drift/all/std": 0.25,
    "drift/all/seed4": 0.25,
    "drift/all/seed5": 0.75,
  }
  assert found == pytest.approx(expected)


def test_clients_that_lie_are_left_out_of_mean_deviation_and_every_seed():
  """Client 1 of either seed lies; values that are not one per client stay as they are."""
  found, whole = scores.means(RESULTS, (4, 5), clients=3, liars=(1,)), scores.means(RESULTS, (4, 5))
  main = {key: found.pop(key) for key in list(found) if key.startswith("shared_accuracy/main")}
  honest = [0.5, 0.7, 0.1, 0.3]
  assert main == pytest.approx(
    {
      "shared_accuracy/main": 0.4,
      "shared_accuracy/main/std": np.std(honest),
      "shared_accuracy/main/seed4": 0.6,
      "shared_accuracy/main/seed5": 0.2,
    }
  )
  assert found == {key: whole[key] for key in found}


def test_the_best_checkpoint_is_that_of_the_honest_clients():
  """Client 1 of either seed lies."""
  best = lambda *heads, **who: scores.best(heads, RESULTS, **who)
  assert best("main") == pytest.approx(2.6 / 6)
  assert best("main", clients=3, liars=(1,)) == pytest.approx(0.4)
  server = [{"shared_accuracy": {"server/main": [x]}} for x in (0.9, 0.7)]  # no client's
  assert scores.best(("main",), server, clients=3, liars=(0,)) == pytest.approx(0.8)
  assert scores.best(("main",), None) is None


def test_a_client_without_a_number_is_left_out_and_a_seed_without_any_has_none():
  nan = float("nan")
  results = [{"private_accuracy": {"main": v}} for v in ([0.5, nan, 0.7], [nan, nan, nan])]
  found = scores.means(results, (0, 1))
  name = "private_accuracy/main"
  expected = {name: 0.6, f"{name}/std": 0.1, f"{name}/seed0": 0.6, f"{name}/seed1": nan}
  assert found == pytest.approx(expected, nan_ok=True)


def test_one_honest_client_has_no_deviation():
  results = [{"shared_accuracy": {"main": [0.5, 0.25]}}]
  found = scores.means(results, (0,), clients=2, liars=(0,))
  assert found == {"shared_accuracy/main": 0.25}
