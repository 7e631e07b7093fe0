"""Primary labels and owner probabilities against hand counts and the paper's numbers."""

import itertools

import numpy as np
import pytest

from kdjax.data import primary as p
from kdjax.types import ConfigError

# Primary labels


@pytest.mark.parametrize(
  "K, per_client, classes",
  [(8, 250, 1000), (5, 2, 10), (4, 3, 12), (10, 9, 10), (10, 10, 10), (6, 5, 10), (1, 10, 10)],
)
def test_even_gives_every_label_equally_many_clients(K, per_client, classes):
  for seed in range(1 if classes == 1000 else 20):
    primary = p.primary_labels(kind="even", K=K, classes=classes, per_client=per_client, seed=seed)
    assert [len(set(labels)) for labels in primary] == [per_client] * K
    assert all(list(labels) == sorted(labels) for labels in primary)
    counts = np.bincount(np.concatenate(primary), minlength=classes)
    np.testing.assert_array_equal(counts, K * per_client // classes)


def test_even_pairs_clients_at_random():
  pairs = set()
  for seed in range(60):
    primary = p.primary_labels(kind="even", K=4, classes=2, per_client=1, seed=seed)
    pairs.add(tuple(labels[0] for labels in primary))
  right = {x for x in itertools.product((0, 1), repeat=4) if sum(x) == 2}
  assert pairs == right


def test_random_primary_labels_leave_as_many_labels_alone_as_the_paper_says():
  sizes = {"kind": "random", "K": 8, "classes": 1000, "per_client": 250}
  primary = p.primary_labels(**sizes, seed=0)
  assert [len(set(labels)) for labels in primary] == [250] * 8
  clients = np.bincount(np.concatenate(primary), minlength=1000)
  found = np.bincount(np.minimum(clients, 4), minlength=5)
  share = np.array([0.10011, 0.26697, 0.31146, 0.20764, 0.11382])  # of Binomial(8, 1/4)
  sigma = np.sqrt(1000 * share * (1 - share))
  assert np.all(abs(found - 1000 * share) < 4 * sigma), found


def test_explicit_primary_labels_are_taken_as_they_are():
  labels = ((3, 1), (0,), ())
  primary = p.primary_labels(kind=labels, K=3, classes=4, per_client=None, seed=0)
  assert primary == ((1, 3), (0,), ())


@pytest.mark.parametrize(
  "kind, per_client, message",
  [
    ("random", 11, "labels = 11: 0 to 10"),
    (
      "even",
      3,
      "labels = 3: a multiple of 5, so that 4 clients share 10 labels evenly; or primary='random', "
      "or partition='equal'$",
    ),
    ("odd", 3, "primary = 'odd'"),
    (((0,), (1,)), 1, "one tuple of labels for each of 4 clients"),
    (((0,), (1,), (2,), (10,)), 1, "0 to 9"),
    (((0, 0), (1,), (2,), (3,)), 1, "different labels"),
    (((0, 1), 2, (3,), (4,)), 1, "different labels"),
    ((("a",), (1,), (2,), (3,)), 1, "different labels"),
    (None, 1, "primary = None"),
    ("random", None, "labels = None"),
  ],
)
def test_impossible_primary_labels_are_refused(kind, per_client, message):
  with pytest.raises(ConfigError, match=message):
    p.primary_labels(kind=kind, K=4, classes=10, per_client=per_client, seed=0)


# Skew


PRIMARY = ((0, 1), (1, 2), (1,), (), (), (), (), ())  # label 0 has one client, label 3 none


def test_owner_probabilities_by_hand():
  P = p.owner_probabilities(PRIMARY, classes=4, s=100)
  np.testing.assert_allclose(P[0], [101 / 108] + [1 / 108] * 7, rtol=1e-12)
  np.testing.assert_allclose(P[1], [101 / 308] * 3 + [1 / 308] * 5, rtol=1e-12)
  np.testing.assert_allclose(P[3], [1 / 8] * 8, rtol=1e-12)


def test_without_skew_every_owner_is_equally_likely():
  np.testing.assert_array_equal(
    p.owner_probabilities(PRIMARY, classes=4, s=0), np.full((4, 8), 1 / 8)
  )


def test_infinite_skew_is_the_limit():
  P = p.owner_probabilities(PRIMARY, classes=4, s=float("inf"))
  np.testing.assert_allclose(P, p.owner_probabilities(PRIMARY, classes=4, s=1e12), atol=1e-11)
  np.testing.assert_array_equal(P[0], [1, 0, 0, 0, 0, 0, 0, 0])
  np.testing.assert_array_equal(P[3], [1 / 8] * 8)
