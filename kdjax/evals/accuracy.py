"""Accuracy on test data, of every head of every client, from per-class counts in one pass.

Yields private and shared accuracy, the K x K accuracy of client i on client j's labels, the same
by graph distance, and the accuracy of the ensemble (the mean of all clients' probabilities). The
last, partial batch counts like every other.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P

from kdjax.core import graph, metrics
from kdjax.core.clients import STATE, sharded
from kdjax.types import ConfigError


def make(experiment, *, batch):
  """The evaluator.

  Args:
    experiment: Experiment.
    batch: test images per pass; a multiple of the mesh's `data` axis.

  Returns:
    state -> a list over replicas of dicts, the accuracy keys of `summary.json`.
  """
  env, data = experiment.env, experiment.data
  test, label_counts = data.source.test, data.shards.label_counts
  predict, view = experiment.algorithm.predict, experiment.view
  if batch < 1 or batch % env.mesh.shape["data"]:
    right = f"must be a positive multiple of the mesh's data axis, {env.mesh.shape['data']}"
    raise ConfigError("evals.accuracy.batch", batch, right)
  total = np.bincount(test.labels, minlength=env.classes)

  def count(p, label, mask):
    """Correct predictions by class, f32[..., H, C]; p f32[..., N, H, C], label and mask [N]."""
    hit = (p.argmax(-1) == label[:, None]) * mask[:, None]  # [..., N, H]
    return jnp.einsum("...nh,nc->...hc", hit, jax.nn.one_hot(label, env.classes))

  def step(state, image, label, mask):
    image = jax.vmap(view)(image).astype(env.dtype)
    single, joint = {}, {}
    for entry, logits in predict(state, image).items():
      counts = [jax.lax.psum(count(x, label, mask), "data") for x in logits]
      single[entry] = env.gather(counts) if entry == "" else counts[0]
      if entry == "":
        joint = jax.lax.psum(count(mean_probability(logits), label, mask), "data")
    return single, joint

  def mean_probability(logits):
    """The mean over the clients of each replica, f32[R, N, H, C]."""
    parts = []
    for g, x in enumerate(logits):
      member = jax.nn.one_hot(env.ids(g) // env.K, env.R).T / env.K  # [R, K_g]
      parts.append(jnp.tensordot(member.astype(x.dtype), jax.nn.softmax(x), 1))
    return jax.lax.psum(sum(parts), "client")

  specs = (STATE, P("data"), P("data"), P("data"))
  program = jax.jit(sharded(env, step, specs, P()))

  def counts(state):
    """Sums over the test set: ({entry: i64[R*K or 1, H, C]}, i64[R, H, C])."""
    sums = None
    for start in range(0, len(test.labels), batch):
      index = np.arange(start, start + batch)
      mask = (index < len(test.labels)).astype(np.float32)
      index = np.minimum(index, len(test.labels) - 1)
      label = test.labels[index].astype(np.int32)
      part = jax.device_get(program(state, test.fetch(index), label, mask))
      part = jax.tree.map(lambda x: np.rint(x).astype(np.int64), part)
      sums = part if sums is None else jax.tree.map(np.add, sums, part)
    return sums

  def run(state):
    single, joint = counts(state)
    distance = graph.distances(env.graph.union())
    return [
      summarise(
        {e: c[r * env.K : (r + 1) * env.K] if e == "" else c for e, c in single.items()},
        joint[r], total, label_counts[r * env.K : (r + 1) * env.K], distance, env.heads,
      )
      for r in range(env.R)
    ]  # fmt: skip

  return run


def summarise(single, joint, total, label_counts, distance, heads):
  """One replica's accuracies, fractions of test data.

  Args:
    single: {entry: i64[K or 1, H, C]} correct predictions by class; '' are the clients.
    joint: i64[H, C], of the ensemble.
    total: i64[C], test examples by class.
    label_counts: i64[K, C].
    distance: i64[K, K], hops from student to teacher.
    heads: H names.

  Returns:
    dict with the keys of `summary.json`: private_accuracy, shared_accuracy, ensemble_accuracy,
    accuracy_by_owner, accuracy_by_distance.
  """
  names = ("private_accuracy", "shared_accuracy", "ensemble_accuracy")
  out = {name: {} for name in (*names, "accuracy_by_owner", "accuracy_by_distance")}
  for entry, correct in single.items():
    for h, head in enumerate(heads[: correct.shape[1]]):
      accuracy = metrics.class_accuracy(correct[:, h], total)
      name = f"{entry}/{head}" if entry else head
      out["shared_accuracy"][name] = metrics.shared_accuracy(accuracy).tolist()
      if entry == "":
        matrix = metrics.accuracy_by_owner(accuracy, label_counts)
        out["accuracy_by_owner"][name] = matrix.tolist()
        out["private_accuracy"][name] = np.diag(matrix).tolist()
        out["accuracy_by_distance"][name] = metrics.by_distance(matrix, distance)
  for h, head in enumerate(heads):
    shared = metrics.shared_accuracy(metrics.class_accuracy(joint[h], total))
    out["ensemble_accuracy"][head] = float(shared)
  return out
