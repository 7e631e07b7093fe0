"""The choice of sources by the metadata that clients advertise: their classes and their layers.

Goldstein, Kachuee, Shiell, Sarrafzadeh: Real-Time Decentralized Knowledge Transfer at the Edge,
2020, https://arxiv.org/abs/2011.05961, Appendix A. X_k are the classes of which client k has seen
an example, L_k its layers, by name and shape. The appendix lists the criteria of an agent without a
formula. The score of `rank` is the simplest one: examples of classes that the target hardly has.
"""

import functools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int

from kdjax.algorithms.pairwise.layers import named_kernels
from kdjax.core import copies, snapshots
from kdjax.core.env import Env


def rank(
  counts: Int[np.ndarray, "K C"],
  candidates: Bool[np.ndarray, "K K"],
  layers: Sequence[tuple],
  *,
  new_below: int,
) -> list[list[int]]:
  """Every client's possible sources, best first.

  The score of source a for target b is sum_c n_a(c) [n_b(c) < new_below]: its examples of classes
  that are new to b. Ties go to more layers in common, then to the smaller number.

  Args:
    counts: i64[K, C], examples seen.
    candidates: bool[K, K], whether b (row) may learn from a (column).
    layers: K tuples of (name, shape).
    new_below: a class is new to a client that has seen fewer examples of it.

  Returns:
    A list over targets of lists of client numbers.
  """
  counts = np.asarray(counts)
  score = (counts < new_below).astype(int) @ counts.T  # [target, source]

  def key(b, a):
    return -score[b, a], -len(set(layers[a]) & set(layers[b])), a

  return [
    sorted(np.flatnonzero(row).tolist(), key=functools.partial(key, b))
    for b, row in enumerate(np.asarray(candidates))
  ]


def choose(env: Env, batches: int, *, best: int, new_below: int) -> Int[np.ndarray, "clients S"]:
  """Every client's sources after `batches` training batches of the run.

  Args:
    env: Env.
    batches: training batches.
    best: how many of a client's teachers to choose, the best by `rank`; 0: all of them.
    new_below: as for `rank`.

  Returns:
    i32[R*K, S], -1 where there are fewer.
  """
  teachers = copies.listed(env, batches)
  if not best:
    return teachers
  peer = np.full((env.clients, min(best, teachers.shape[1])), -1, np.int32)
  order = np.argsort(env.population.identity)
  adjacency = env.graph.at(batches)[np.ix_(order, order)]
  counts = np.asarray(env.task.label_counts).reshape(env.R, env.K, env.task.classes)
  layers = [
    tuple((k, x.shape) for k, x in named_kernels(env.cohorts[g].template.params).items())
    for g in snapshots.cohort_of(env)[order]
  ]
  for r in range(env.R):
    ranked = rank(counts[r][order], adjacency, layers, new_below=new_below)
    for b, row in zip(order, ranked, strict=True):
      row = row[: peer.shape[1]]
      peer[r * env.K + b, : len(row)] = order[row] + r * env.K
  return peer
