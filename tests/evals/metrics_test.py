"""Accuracies by hand: 3 classes, of which the test set has two."""

import numpy as np
import pytest

from kdjax.core import metrics

ACCURACY = np.array([[0.8, 0.5, np.nan], [0.2, 1.0, np.nan]])
COUNTS = np.array([[30, 10, 0], [0, 5, 5]])


def test_class_accuracy():
  correct, total = np.array([[8, 10, 0], [2, 20, 0]]), np.array([10, 20, 0])
  np.testing.assert_array_equal(metrics.class_accuracy(correct, total), ACCURACY)


def test_shared_accuracy_weighs_classes_equally():
  """Not 18 / 30 and 22 / 30: class 1 has twice as many examples, but no more weight."""
  np.testing.assert_allclose(metrics.shared_accuracy(ACCURACY), [0.65, 0.6])


def test_accuracy_by_owner():
  # Labels of client 0: (3/4, 1/4); of client 1, without the class that is not tested: (0, 1).
  expected = [
    [0.8 * 0.75 + 0.5 * 0.25, 0.5],  # client 0 on its own data, on client 1's
    [0.2 * 0.75 + 1.0 * 0.25, 1.0],
  ]
  np.testing.assert_allclose(metrics.accuracy_by_owner(ACCURACY, COUNTS), expected)


def test_equal_label_counts_make_private_and_shared_accuracy_equal():
  accuracy = np.array([[0.3, 0.9, 0.6], [0.1, 0.2, 0.3]])
  matrix = metrics.accuracy_by_owner(accuracy, np.full((2, 3), 7))
  np.testing.assert_allclose(matrix.diagonal(), metrics.shared_accuracy(accuracy))


def test_a_client_whose_labels_are_not_tested_is_left_out_of_the_means_by_distance():
  """Client 1 holds nothing but class 2, of which there is no test example: column 1 is NaN."""
  matrix = metrics.accuracy_by_owner(ACCURACY, np.array([[30, 10, 0], [0, 0, 5]]))
  np.testing.assert_allclose(matrix, [[0.725, np.nan], [0.4, np.nan]])
  found = metrics.by_distance(matrix, np.array([[0, 1], [-1, 0]]))
  assert found.pop("0") == pytest.approx(0.725)
  assert found.pop("unreachable") == pytest.approx(0.4)
  assert list(found) == ["1"] and np.isnan(found["1"])  # nobody else has a number there


def test_by_distance():
  matrix = np.array([[0.9, 0.5, 0.1], [0.2, 0.8, 0.7], [0.3, 0.4, 1.0]])
  distance = np.array([[0, 1, 2], [-1, 0, 1], [-1, -1, 0]])  # a chain
  expected = {"0": 0.9, "1": 0.6, "2": 0.1, "unreachable": 0.3}
  assert metrics.by_distance(matrix, distance) == pytest.approx(expected)
  reachable = metrics.by_distance(matrix, np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]]))
  assert reachable == pytest.approx({"0": 0.9, "1": 2.2 / 6})
