"""Accuracy on test data, of every head of every client, from per-class counts in one pass.

Yields private and shared accuracy, the K x K accuracy of client i on client j's labels, the same
by graph distance, the accuracy of the ensemble (the mean of all clients' probabilities, without
those that are not finite), and the number of predictions of each class, by which
training/collapse.py detects collapsed heads.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from kdjax.core import graph, health, metrics
from kdjax.evals import _counting as counting
from kdjax.types import Evaluator

if TYPE_CHECKING:
  from kdjax.core.env import Env
  from kdjax.experiment import Experiment


JOINT = "ensemble"  # the entry of the clients' averaged predictions


def make(experiment: "Experiment", *, batch: int) -> Evaluator:
  """The evaluator.

  Args:
    experiment: Experiment.
    batch: test images per pass; a multiple of the mesh's `data` axis.

  Returns:
    state -> a list over replicas of dicts, the accuracy keys of `summary.json`.
  """
  env, data = experiment.env, experiment.data
  test, label_counts = data.source.test, data.shards.label_counts[list(env.local_holders)]
  total = np.bincount(test.labels, minlength=env.task.classes)

  counts = counting.over(experiment, "accuracy", batch, counter(env))

  distance = graph.distances(env.graph.union()) if experiment.algorithm.uses_graph else None
  if distance is not None and env.is_peer:
    distance = distance[np.ix_(env.local_ids, env.local_ids)]

  def run(state):
    counted = counts(state, test, np.arange(len(test.labels)))  # {entry: i64[R*K or R, 2, H, C]}
    by_replica = {e: c.reshape(env.R, -1, *c.shape[1:]) for e, c in counted.items()}
    private = label_counts.reshape(env.R, -1, env.task.classes)
    return [
      summarise(
        {e: c[r] for e, c in by_replica.items()}, total, private[r], distance, env.heads, env.liars
      )
      for r in range(env.R)
    ]

  return run


def counter(env: "Env") -> Callable[..., dict[str, jax.Array]]:
  """The counts of one device's share of a batch; clients that lie are not in the ensemble.

  Returns:
    (the method's predictions, label i32[N], mask f32[N]) -> {entry: predictions by class, the
    correct ones and all, f32[..., 2, H, C]}.
  """

  def count(p, label, mask):
    """Counts f32[..., 2, H, C] of logits or probabilities f32[..., N, H, C]."""
    predicted = jax.nn.one_hot(p.argmax(-1), env.task.classes)
    predicted *= mask[:, None, None]  # [..., N, H, C]
    true = jax.nn.one_hot(label, env.task.classes)[:, None]
    return jnp.stack([(predicted * true).sum(-3), predicted.sum(-3)], axis=-3)

  def count_all(predicted, label, mask):
    counts = {}
    for entry, logits in predicted.items():
      if isinstance(logits, tuple):
        counts[entry] = env.gather([count(x, label, mask) for x in logits])
      else:
        counts[entry] = count(logits, label, mask)
      if entry == "":
        counts[JOINT] = count(mean_probability(logits), label, mask)
    return counts

  def mean_probability(logits):
    """The mean over the honest clients of each replica, f32[R, N, H, C]."""
    parts = []
    liars = jnp.array(env.liars, int)
    for g, x in enumerate(logits):
      member = jax.nn.one_hot(env.ids(g) // env.K, env.R).T  # [R, K_g]
      member *= ~jnp.isin(env.ids(g) % env.K, liars) / (env.K - len(env.liars))
      p = jax.nn.softmax(x)
      # One client that is not finite must not silence the others.
      p = jnp.where(health.finite_rows(p)[..., None], p, 0)
      parts.append(jnp.tensordot(member.astype(x.dtype), p, 1))
    return jax.lax.psum(sum(parts), "client")

  return count_all


def summarise(
  counts: dict[str, np.ndarray],
  total: Int[np.ndarray, " C"],
  label_counts: Int[np.ndarray, "K C"],
  distance: Int[np.ndarray, "K K"] | None,
  heads: tuple[str, ...],
  liars: tuple[int, ...] = (),
) -> dict[str, Any]:
  """One replica's accuracies, fractions of test data.

  Args:
    counts: {entry: i64[K or 1, 2, H, C]} predictions by class, the correct ones and all; '' are the
      clients, `JOINT` their ensemble. Other entries are named ENTRY/HEAD.
    total: i64[C], test examples by class.
    label_counts: i64[K, C].
    distance: i64[K, K], hops from student to teacher; None where no client learns along a graph.
    heads: H names.
    liars: the clients that lie; what they know is in no mean.

  Returns:
    dict with the keys of `summary.json`: private_accuracy, shared_accuracy, ensemble_accuracy,
    accuracy_by_owner, accuracy_by_distance (not without distances), predictions_by_class (the
    number of test examples for which each class is predicted). Entries that are one model for all
    clients have no numbers that depend on a client's private data.
  """
  names = ("private_accuracy", "shared_accuracy", "ensemble_accuracy")
  matrices = ("accuracy_by_owner", "accuracy_by_distance", "predictions_by_class")
  out: dict[str, Any] = {name: {} for name in (*names, *matrices)}
  for entry, counted in counts.items():
    correct, predicted = counted[:, 0], counted[:, 1]  # [K or 1, H, C]
    for h, head in enumerate(heads[: correct.shape[1]]):
      accuracy = metrics.class_accuracy(correct[:, h], total)
      shared = metrics.shared_accuracy(accuracy)
      if entry == JOINT:
        out["ensemble_accuracy"][head] = float(shared[0])
        continue
      name = f"{entry}/{head}" if entry else head
      out["shared_accuracy"][name] = shared.tolist()
      out["predictions_by_class"][name] = predicted[:, h].tolist()
      if len(correct) == len(label_counts):
        matrix = metrics.accuracy_by_owner(accuracy, label_counts)
        out["accuracy_by_owner"][name] = matrix.tolist()
        out["private_accuracy"][name] = np.diag(matrix).tolist()
        if distance is not None:
          honest = np.delete(np.arange(len(matrix)), liars)
          means = metrics.by_distance(matrix[honest], distance[honest])
          out["accuracy_by_distance"][name] = means
  if distance is None:
    del out["accuracy_by_distance"]
  return out
