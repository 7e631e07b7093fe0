"""The quality of a client's frozen embeddings: a head tuned on them with labels of all classes.

Zhmoginov et al., CVPR 2023, Section 4.4: the blue lines of Fig. 6, "the upper bound per the
embedding quality". The head is a multinomial logistic regression on the private examples of all
clients together, with standardised features and an l2 penalty of 1 / (2 C) on its weights
(scikit-learn's, by L-BFGS in float64). The paper does not specify how the head is tuned.
"""

import functools
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

import jax
import numpy as np
from jax.sharding import PartitionSpec as P
from jaxtyping import Float, Int

from kdjax.core import hosts, metrics
from kdjax.core.env import STATE, sharded
from kdjax.core.passes import heads_input
from kdjax.core.random import host_rng
from kdjax.evals import _counting as counting
from kdjax.types import ConfigError, Evaluator, TrainState

if TYPE_CHECKING:
  from kdjax.data.example_set import ExampleSet
  from kdjax.experiment import Experiment


def make(
  experiment: "Experiment", *, batch: int, limit: int, C: float, iterations: int
) -> Evaluator:
  """The evaluator.

  Args:
    experiment: Experiment.
    batch: images per pass; a multiple of the mesh's `data` axis.
    limit: > 0: the number of a replica's private examples to tune on, drawn by its seed; 0: all.
    C: inverse of the l2 penalty.
    iterations: the most iterations of L-BFGS.

  Returns:
    state -> a list over replicas of dicts {'linear_probe': {'shared': [one per client]}}, the mean
    over the test set's classes of the accuracy within each; 0 for a client with embeddings that are
    not finite.

  Raises:
    ConfigError: for invalid numbers, private data of one class, or clients that train apart.
  """
  env, source, shards = experiment.env, experiment.data.source, experiment.data.shards
  _check(experiment, limit=limit, C=C, iterations=iterations)
  pools = [
    pool(shards.private, r, env.population.holders, limit, seed)
    for r, seed in enumerate(env.population.seeds)
  ]
  _check_classes(source.train.labels, pools, limit)
  embed = embedder(experiment, batch)
  test = source.test
  total = np.bincount(test.labels, minlength=source.classes)
  all_places = np.arange(len(test.labels))

  def run(state):
    test_embeddings = embed(state, test, all_places)
    out = []
    for r, places in enumerate(pools):
      train_embeddings = embed(state, source.train, places)
      labels = source.train.labels[places]
      predicted = np.stack(
        [
          probe(train_embeddings[k], labels, test_embeddings[k], C, iterations)
          for k in range(r * env.K, (r + 1) * env.K)
        ]
      )
      correct = [
        np.bincount(test.labels[hit], minlength=len(total)) for hit in predicted == test.labels
      ]
      accuracy = metrics.class_accuracy(np.stack(correct), total)
      out.append({"linear_probe": {"shared": metrics.shared_accuracy(accuracy).tolist()}})
    return out

  return run


def _check(experiment, **numbers):
  if experiment.env.is_peer:
    hint = "needs the private data of all clients, and these train apart: leave it out"
    raise ConfigError("evals", "linear_probe", hint)
  for key, value in numbers.items():
    if not (value > 0 or key == "limit" and value == 0):
      raise ConfigError(f"evals.linear_probe.{key}", value, "must be above 0")


def _check_classes(labels, pools, limit):
  """Refuses examples to tune on that are all of one class."""
  if all(len(np.unique(labels[places])) > 1 for places in pools):
    return
  if limit:
    hint = "the examples that it draws are of one class: more of them, or 0 for all"
    raise ConfigError("evals.linear_probe.limit", limit, hint)
  raise ConfigError("evals", "linear_probe", "the private data are of one class: leave it out")


def pool(
  private: tuple[np.ndarray, ...], r: int, holders: int, limit: int, seed: int
) -> Int[np.ndarray, " n"]:
  """The examples that replica r's heads are tuned on: private ones, each once, ascending places."""
  places = np.unique(np.concatenate(private[r * holders : (r + 1) * holders]))
  if not 0 < limit < len(places):
    return places
  return np.sort(host_rng(seed, "linear probe").choice(places, limit, replace=False))


def probe(
  train: Float[np.ndarray, "n F"],
  labels: Int[np.ndarray, " n"],
  test: Float[np.ndarray, "N F"],
  C: float,
  iterations: int,
) -> Int[np.ndarray, " N"]:
  """Classes of `test` predicted by a head tuned on `train`; see the file's docstring.

  -1, no class, where a number is not finite: there is no head to tune on such embeddings.
  """
  if not (np.isfinite(train).all() and np.isfinite(test).all()):
    return np.full(len(test), -1)
  from sklearn.exceptions import ConvergenceWarning
  from sklearn.linear_model import LogisticRegression
  from threadpoolctl import threadpool_limits

  mean, std = train.mean(0), train.std(0)
  scale = lambda x: (x - mean) / np.where(std > 0, std, 1)
  # For products this small, several threads wait for each other forty times as long as they work.
  with threadpool_limits(1, "blas"), warnings.catch_warnings():
    warnings.simplefilter("ignore", ConvergenceWarning)  # `iterations` is a limit on purpose
    head = LogisticRegression(C=C, max_iter=iterations).fit(scale(train), labels)
  return head.predict(scale(test))


def embedder(
  experiment: "Experiment", batch: int
) -> Callable[[TrainState, "ExampleSet", np.ndarray], dict[int, np.ndarray]]:
  """(state, examples, places i64[n]) -> {client: embeddings f64[n, F]}, in evaluation mode."""
  env = experiment.env
  counting.check_batch(experiment, "linear_probe", batch)

  def embed(state, image):
    seen = counting.seen(experiment, image)
    embedding = lambda cohort, client: heads_input(cohort.model, client, seen)[0]
    pairs = zip(env.cohorts, state.clients, strict=True)
    return tuple(env.map_clients(functools.partial(embedding, cohort), c) for cohort, c in pairs)

  program = jax.jit(sharded(env, embed, (STATE, P("data")), P("client", "data")))

  def run(state, examples, places):
    parts = []
    for image, _, mask in counting.batches(experiment, examples, places, batch):
      (image,) = hosts.place(env.mesh, (P("data"),), (image,))
      parts.append([x[:, mask > 0] for x in hosts.fetch(program(state, image))])
    whole = [np.concatenate(x, axis=1).astype(np.float64) for x in zip(*parts, strict=True)]
    pairs = zip(env.cohorts, whole, strict=True)
    return {k: x for cohort, xs in pairs for k, x in zip(cohort.ids, xs, strict=True)}

  return run
