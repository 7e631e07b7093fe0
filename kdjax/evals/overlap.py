"""Correct predictions of teacher and student, together and alone: intersection and consensus.

Lee, Yoo and Kwak, 2020, https://arxiv.org/abs/2010.10338v1, Section 4.1, Figs. 4, 6 and 9. Teacher
and student are the entries 'edge' and 'core' of a method whose `server['holder']` is the holder
that the teacher learned from. They are compared on test data, on the core's training data (holder
0's) and on that edge's, all of it without augmentation. Where the method predicts them (async
edge's `track`), two more pairs are compared: the same teacher with the core before the distillation
(Figs. 4 and 9: the change by a distillation), and the first edge's models with the current core
(Fig. 6c).
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np

from kdjax.evals import _counting as counting
from kdjax.types import ConfigError, Evaluator

if TYPE_CHECKING:
  from kdjax.experiment import Experiment


ENTRIES = ("edge", "core")  # teacher, student
PAIRS = {"": ENTRIES, "_before": ("edge", "before"), "_first": ("first", "core")}


def make(experiment: "Experiment", *, batch: int, every: int) -> Evaluator:
  """The evaluator.

  Args:
    experiment: Experiment.
    batch: images per pass; a multiple of the mesh's `data` axis.
    every: batches between two evaluations; must be 0.

  Returns:
    state -> a list over replicas of dicts {'overlap_test', 'overlap_core', 'overlap_edge': see
    `summarise`}, for main heads; dicts are empty before the first teacher has returned. Where the
    entries of `PAIRS` exist, the same keys also come with '_before' and '_first'.

  Raises:
    ConfigError: for an invalid batch size, or a method without these entries.
  """
  env, data = experiment.env, experiment.data
  if every:
    hint = "must be 0, after every round: within one, the models are on their way to another edge"
    raise ConfigError("evals.overlap.every", every, hint)

  def count_pairs(predicted, label, mask):
    """Correct answers of teacher, student and both, per replica and pair; f32[R, pairs, 3]."""
    correct = {e: x[:, :, 0].argmax(-1) == label for e, x in predicted.items()}  # bool[R, N]
    by_pair = [(correct[t], correct[s]) for t, s in pairs.values()]
    counted = jnp.stack([jnp.stack([t, s, t & s], 1) for t, s in by_pair], 1)  # [R, pairs, 3, N]
    return (counted * mask).sum(-1)

  count = counting.over(experiment, "overlap", batch, count_pairs)
  entries = counting.entries(experiment)
  if not set(ENTRIES) <= entries:
    hint = "this method has no teacher that comes from an edge to a core: leave it out"
    raise ConfigError("evals", "overlap", hint)
  pairs = {name: pair for name, pair in PAIRS.items() if set(pair) <= entries}

  def shares(counts, where, n):
    return {
      f"overlap_{where}{pair}": summarise(c, n) for pair, c in zip(pairs, counts, strict=True)
    }

  def run(state):
    holder = int(state.server["holder"])
    if holder < 0:
      return [{} for _ in range(env.R)]
    train, test = data.source.train, data.source.test
    n = len(test.labels)
    results = [shares(c, "test", n) for c in count(state, test, np.arange(n))]
    for r, out in enumerate(results):  # the images of holders differ between replicas
      for name, k in (("core", 0), ("edge", holder)):
        places = np.asarray(data.shards.private[r * env.population.holders + k])
        out |= shares(count(state, train, places)[r], name, len(places))
    return results

  return run


def summarise(counts: Iterable[int], n: int) -> dict[str, float]:
  """Shares of n examples.

  Args:
    counts: (|T|, |S|, |T and S|), the examples that the teacher, the student and both get right.
    n: examples.

  Returns:
    dict of 'teacher' and 'student', their accuracies; 'mutual', both are right; 'exclusive', only
    the student is; 'union', either is; and 'consensus', mutual over union, 1 if the union is empty.
  """
  teacher, student, mutual = (int(c) for c in counts)
  union = teacher + student - mutual
  return {
    "teacher": teacher / n,
    "student": student / n,
    "mutual": mutual / n,
    "exclusive": (student - mutual) / n,
    "union": union / n,
    "consensus": mutual / union if union else 1.0,
  }
