"""The consensus under the properties that every method has, by hand, and its config."""

import chex
import consensus
import consensus_digits
import numpy as np
import pytest

import kdjax
from kdjax import testing
from kdjax.testing import small

CASE = testing.Case(
  method="consensus:METHOD",
  algo=dict(most_entropy=1.2, weight=1.0),
  messages=lambda s: {"train": {"all_gather": {(s.k, s.b, s.C)}}},
)


@pytest.mark.parametrize("name", testing.PROPERTIES)
def test_consensus(name):
  """It has the property."""
  testing.check(name, CASE)


def test_the_mean_is_over_who_is_heard():
  """Of three clients and two examples, the last client says nothing of the first."""
  said = np.array([[[0.8, 0.2], [0.9, 0.1]], [[0.4, 0.6], [0.0, 1.0]], [[np.nan] * 2, [0.3, 0.7]]])
  heard = np.array([[True, True], [True, True], [False, True]])
  mean = consensus.agree(said[None], heard[None])
  np.testing.assert_allclose(mean, [[[0.6, 0.4], [0.4, 0.6]]], rtol=1e-6)


def test_where_it_is_never_sure_clients_train_alone():
  """To the bit: a loss of nothing adds nothing."""
  alone = testing.Case(method="separate")
  never = testing.Case(method=CASE.method, algo=dict(most_entropy=0.0, weight=1.0))
  ends = []
  for case in (never, alone, CASE):
    e = small.build(small.config(case, dtype="float32"))
    ends.append(small.by_client(e, small.train(e)[0]))
  chex.assert_trees_all_equal(ends[0], ends[1])
  with pytest.raises(AssertionError):
    chex.assert_trees_all_close(ends[2], ends[1], rtol=1e-3)


def test_its_config_runs(tmp_path):
  """A few steps of the first seed."""
  c = consensus_digits.get_config()
  c.steps, c.replicas, c.compare, c.log_every = 4, 1, (), 2
  c.clients = ((5, "mlp", dict(hidden=(8,), activation="tanh")),)
  run = kdjax.train(c, tmp_path / "run")
  assert run.summary["bytes_sent"] == {"predictions": 4 * 5 * 4 * 32 * 10 * 4}
