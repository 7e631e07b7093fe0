"""Accuracies from counts per class: one pass over the test set yields all of them.

Shared accuracy is the mean over classes of the accuracy within the class. Private accuracy of a
client weighs the classes by their frequencies in its private training data (Zhmoginov et al.,
Section 4.2.1). It is the exact expectation, so no test examples are drawn.
"""

from typing import Any

import numpy as np
from jaxtyping import Float, Int


def class_accuracy(
  correct: Int[np.ndarray, "... C"], total: Int[np.ndarray, " C"]
) -> Float[np.ndarray, "... C"]:
  """Accuracy within each class; NaN for a class without test examples.

  Args:
    correct: i64[..., C].
    total: i64[C].

  Returns:
    f64[..., C], fractions.
  """
  with np.errstate(invalid="ignore", divide="ignore"):
    return np.asarray(correct, float) / np.asarray(total, float)


def shared_accuracy(accuracy: Float[np.ndarray, "... C"]) -> np.ndarray:
  """Mean over the classes with test examples; f64[..., C] -> f64[...]."""
  return np.nanmean(accuracy, axis=-1)


def accuracy_by_owner(
  accuracy: Float[np.ndarray, "K C"], label_counts: Int[np.ndarray, "K C"]
) -> Float[np.ndarray, "K K"]:
  """Accuracy of client i on client j's label distribution.

  Args:
    accuracy: f64[K, C], of each client within each class.
    label_counts: i64[K, C], private training examples.

  Returns:
    f64[K, K]; row i, column j. The diagonal is the private accuracy.
  """
  tested = ~np.isnan(accuracy[0])
  counts = np.asarray(label_counts, float)[:, tested]
  with np.errstate(invalid="ignore"):  # NaN for a client without any tested label
    pi = counts / counts.sum(1, keepdims=True)  # [K, C]
  return accuracy[:, tested] @ pi.T


def by_distance(
  matrix: Float[np.ndarray, "students K"], distance: Int[np.ndarray, "students K"]
) -> dict[str, float]:
  """Mean of a matrix over the pairs at each graph distance, {'0': ..., '1': ...}.

  Pairs without a number are left out, as those with a client none of whose labels are tested.
  """
  hops = sorted(set(distance[distance >= 0].tolist()))
  means = {str(d): mean_of_known(matrix[distance == d]) for d in hops}
  if (distance < 0).any():
    means["unreachable"] = mean_of_known(matrix[distance < 0])
  return means


def known(values: Any) -> np.ndarray:
  """Those of the values, an array or sequence, that are numbers, f64[n]; not NaN, not None."""
  values = np.ravel(np.asarray(values, float))
  return values[~np.isnan(values)]


def mean_of_known(values: Any) -> float:
  """The mean over the values that are numbers; NaN where there is none."""
  numbers = known(values)
  return float(numbers.mean()) if numbers.size else float("nan")
