"""The offset's control against plain loops."""

import dataclasses

import ensembles
import jax
import numpy as np
import pytest

from kdjax.core.passes import eval_mode
from kdjax.evals import prior_offset
from kdjax.types import ClientState, ConfigError

K, R, C = 3, 2, ensembles.CLASSES
PRIMARY = ((0,), (1, 2), (3,)) * R


def config(**changes):
  c = ensembles.config("separate", ((K, *ensembles.MLP),), replicas=R, **changes)
  c.evals = dict(prior_offset=dict(every=0, batch=8))
  c.public_share = 0.1
  return c


@pytest.fixture(scope="module")
def case():
  """(experiment on two by two devices, its results, state) of untrained models."""
  source, shards = ensembles.data(K, R=R)
  shards = dataclasses.replace(shards, primary=PRIMARY)
  counts = shards.label_counts.copy()
  counts[:, 0] = (0, 40, 3, 9, 1, 0)  # very unlike each other
  shards = dataclasses.replace(shards, label_counts=counts)
  with jax.enable_x64(True):
    e = ensembles.build(config(), data_=(source, shards), mesh=4)
    state = e.init()
    return e, e.evaluators["prior_offset"][1](state), state


@pytest.mark.parametrize("k", [0, 1, 4])
def test_tau_is_chosen_on_public_images_and_tested_on_others(case, k):
  e, results, state = case
  params, statistics = ensembles.by_client(e, state)[k]
  client = ClientState(params, statistics, ())
  n = e.data.shards.label_counts[k] + 1
  prior = np.log(n / n.sum())

  def right(images, labels, tau):
    with jax.enable_x64(True):
      seen = jax.vmap(e.view)(images).astype(float)
      logits = np.asarray(eval_mode(e.env.cohorts[0].model, client, seen).logits[:, 0])
    return (logits - tau * prior).argmax(-1) == labels

  held, test = e.data.shards.public[k // K], e.data.source.test
  images, labels = e.data.public.array[held], e.data.public.labels[held]
  correct = [right(images, labels, tau).sum() for tau in prior_offset.TAUS]
  found = {name: x["main"][k % K] for name, x in results[k // K].items()}
  assert found["offset_tau"] == pytest.approx(prior_offset.TAUS[np.argmax(correct)])
  hits = right(test.array, test.labels, found["offset_tau"])
  own = np.isin(test.labels, PRIMARY[k])
  assert found["offset_local_accuracy"] == pytest.approx(hits[own].mean())
  assert found["offset_remote_accuracy"] == pytest.approx(hits[~own].mean())
  assert found["offset_combined_accuracy"] == pytest.approx(hits.mean())


def test_an_offset_lets_a_client_name_what_it_has_hardly_seen():
  prior = prior_offset.log_prior(np.array([[97, 0, 1], [0, 0, 0]]))
  np.testing.assert_allclose(prior, np.log([[0.98 - 0.98 / 101, 1 / 101, 2 / 101], [1 / 3] * 3]))


def test_what_cannot_be_measured_is_refused():
  c = config(dtype="float32")
  c.public_reuse = True
  with pytest.raises(ConfigError, match="public_share = 0.1: above 0, .* not private"):
    ensembles.build(c)
  c = config(dtype="float32")
  c.evals.prior_offset.batch = 7
  with pytest.raises(ConfigError, match="evals.prior_offset.batch = 7"):
    ensembles.build(c, mesh=4)
