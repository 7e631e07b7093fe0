"""The tuned head: what it is tuned on, what it can read from embeddings, and what it says."""

import dataclasses

import ensembles
import jax
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from kdjax.ending import DONE
from kdjax.evals import linear_probe
from kdjax.training import loop, writer
from kdjax.types import ConfigError

CLIENTS = ((2, *ensembles.MLP), (2, *ensembles.WIDE))  # widths 8 and 8, other layers
PROBE = dict(every=4, batch=16, limit=0, C=1.0, iterations=200)


def build(method="mhd fresh", clients=CLIENTS, data=None, mesh=1, project=0, replicas=1, **probe):
  c = ensembles.config(method, clients, dtype="float32", replicas=replicas)
  c.model.project = project
  c.evals.linear_probe = PROBE | probe
  return ensembles.build(c, data_=data, mesh=mesh)


def embeddings(params, x):
  """One client's embeddings by NumPy: tanh after one layer (MLP), ReLU after two (WIDE)."""
  layers = [params[name] for name in sorted(params) if name.startswith("Dense")]
  activation = np.tanh if len(layers) == 1 else lambda z: np.maximum(z, 0)
  for layer in layers:
    x = activation(x @ layer["kernel"] + layer["bias"])
  return x.astype(np.float64)


def pixels(examples, places):
  return examples.array[places].reshape(len(places), -1) / 255 * 2 - 1


def by_hand(e, params, places):
  """Mean over classes of a tuned head's accuracy within each, by plain loops."""
  source = e.data.source
  train, test = (
    embeddings(params, pixels(s, p))
    for s, p in ((source.train, places), (source.test, np.arange(37)))
  )
  mean, std = train.mean(0), train.std(0)
  std[std == 0] = 1
  head = LogisticRegression(C=1.0, max_iter=200)
  head.fit((train - mean) / std, source.train.labels[places])
  said = head.predict((test - mean) / std)
  within = [np.mean(said[source.test.labels == c] == c) for c in range(ensembles.CLASSES)]
  return np.mean(within)


@pytest.mark.parametrize("mesh, project", [(1, 0), (1, 3), (4, 0)])
def test_it_is_tuned_on_all_private_data_of_the_replica(mesh, project):
  """On what the heads read, whatever width `model.project` maps the embedding to."""
  e = build(mesh=mesh, project=project)
  state = e.init()
  (found,) = e.evaluators["linear_probe"][1](state)
  places = np.sort(np.concatenate(e.data.shards.private))
  assert len(places) == 100  # nothing public
  expected = [by_hand(e, params, places) for params, _ in ensembles.by_client(e, state)]
  np.testing.assert_allclose(found["linear_probe"]["shared"], expected, atol=1e-12)
  assert len(set(expected)) > 1  # who is who matters


def test_it_reads_what_the_heads_do_not_say():
  """Untrained embeddings of separable classes: the model's heads guess, a tuned head knows."""
  source, shards = ensembles.data()
  e = build(data=(source, shards), C=100.0, iterations=500)
  state = e.init()
  (found,) = e.evaluators["linear_probe"][1](state)
  (heads,) = e.evaluators["accuracy"][1](state)
  best = np.array(list(heads["shared_accuracy"].values())).max(0)
  assert np.all(np.array(found["linear_probe"]["shared"]) > best + 0.1)


def test_a_limit_draws_by_the_replicas_seed():
  private = (np.arange(0, 40, 2), np.array([1, 3]), np.arange(10, 30), np.array([7]))
  whole = linear_probe.pool(private, 0, 2, 0, seed=0)
  assert whole.tolist() == sorted([*range(0, 40, 2), 1, 3])
  both = linear_probe.pool(private, 0, 4, 0, seed=0)
  assert len(both) == len(set(both)) == len(set(np.concatenate(private)))
  some = [linear_probe.pool(private, 0, 2, 5, seed=s).tolist() for s in (0, 0, 1)]
  assert some[0] == some[1] != some[2]
  assert all(len(x) == 5 and set(x) < set(whole) and x == sorted(x) for x in some)
  assert linear_probe.pool(private, 1, 2, 99, seed=0).tolist() == [7, *range(10, 30)]


@pytest.mark.parametrize(
  "changes", [dict(C=0.0), dict(iterations=0), dict(limit=-1), dict(batch=3)]
)
def test_numbers_that_cannot_be_are_refused(changes):
  (key,) = changes
  with pytest.raises(ConfigError) as error:
    build(mesh=4, **changes)
  assert error.value.key == f"evals.linear_probe.{key}"


def test_private_data_of_one_class_are_refused():
  source, shards = ensembles.data(R=2)
  label = np.where(np.isin(np.arange(len(source.train.labels)), shards.public[0]), 1, 2)
  labelled = lambda label: source._replace(train=dataclasses.replace(source.train, labels=label))
  with pytest.raises(ConfigError, match="of one class: leave it out"):
    build(data=(labelled(label), shards), replicas=2)
  label[shards.private[5][0]] = 1  # of all private examples, but not of those that are drawn
  with pytest.raises(ConfigError) as error:
    build(data=(labelled(label), shards), replicas=2, limit=2)
  assert error.value.key == "evals.linear_probe.limit"


def test_a_client_with_embeddings_that_are_not_finite_has_nothing_right():
  e = build()
  state = e.init()
  first = state.clients[0]
  broken = jax.tree.map(lambda x: x.at[1].set(np.inf), first.params)
  evaluate = e.evaluators["linear_probe"][1]
  (whole,), (found,) = (
    evaluate(s)
    for s in (state, state._replace(clients=(first._replace(params=broken), *state.clients[1:])))
  )
  right = whole["linear_probe"]["shared"]
  assert found["linear_probe"]["shared"] == [right[0], 0.0, *right[2:]] and right[1] > 0


def test_evaluators_run_in_their_own_periods(tmp_path):
  """A probe whose period is longer than the run comes at its end alone."""
  c = ensembles.config("separate", dtype="float32")
  c.evals.linear_probe = PROBE | dict(every=1_000)
  e = ensembles.build(c)
  assert loop.run(e, tmp_path, command="") == DONE
  lines = [x for x in writer.read_metrics(tmp_path) if x["phase"] == "eval"]
  assert [(x["step"], "linear_probe/shared" in x) for x in lines] == [(4, False), (8, True)]
  assert all("shared_accuracy/main" in x for x in lines)
