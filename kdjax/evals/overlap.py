"""What teacher and student get right together and alone: prediction intersection and consensus.

Lee, Yoo and Kwak, 2020, https://arxiv.org/abs/2010.10338v1, Section 4.1, Figs. 4, 6 and 9. Teacher
and student are the entries 'edge' and 'core' of a method whose `server['holder']` says whose data
the teacher learned from. They are compared on test data, on the core's training data (holder 0's)
and on that edge's, all of it as at test time, without augmentation.
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


def make(experiment: "Experiment", *, batch: int) -> Evaluator:
  """The evaluator.

  Args:
    experiment: Experiment.
    batch: images per pass; a multiple of the mesh's `data` axis.

  Returns:
    state -> a list over replicas of dicts {'overlap_test', 'overlap_core', 'overlap_edge': see
    `summarise`}, of main heads; empty ones before the first teacher came back.

  Raises:
    ConfigError: for a batch that cannot be, or a method without these entries.
  """
  env, data = experiment.env, experiment.data
  every = experiment.config["evals"]["overlap"]["every"]
  if every:
    hint = "must be 0, after every round: within one, the models are on their way to another edge"
    raise ConfigError("evals.overlap.every", every, hint)

  def count_both(predicted, label, mask):
    """Right answers of teacher, student and both, of every replica; f32[R, 3]."""
    correct = [predicted[entry][:, :, 0].argmax(-1) == label for entry in ENTRIES]  # bool[R, N]
    return (jnp.stack([*correct, correct[0] & correct[1]], 1) * mask).sum(-1)

  count = counting.over(experiment, "overlap", batch, count_both)
  if not set(ENTRIES) <= counting.entries(experiment):
    hint = "this method has no teacher that comes from an edge to a core: leave it out"
    raise ConfigError("evals", "overlap", hint)

  def run(state):
    holder = int(state.server["holder"])
    if holder < 0:
      return [{} for _ in range(env.R)]
    train, test = data.source.train, data.source.test
    n = len(test.labels)
    found = [{"overlap_test": summarise(c, n)} for c in count(state, test, np.arange(n))]
    for r, out in enumerate(found):  # every replica has other images
      for name, k in (("overlap_core", 0), ("overlap_edge", holder)):
        places = np.asarray(data.shards.private[r * env.population.holders + k])
        out[name] = summarise(count(state, train, places)[r], len(places))
    return found

  return run


def summarise(counts: Iterable[int], n: int) -> dict[str, float]:
  """Shares of n examples.

  Args:
    counts: (|T|, |S|, |T and S|), how many the teacher, the student and both get right.
    n: examples.

  Returns:
    dict of 'teacher' and 'student', their accuracies; 'mutual', both; 'exclusive', the student
    alone; 'union', either; and 'consensus', mutual over union, 1 where nobody gets any right.
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
