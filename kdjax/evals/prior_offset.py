"""The gain by an offset on the logits alone: a control for methods that claim transfer.

A client that has hardly seen a class rarely predicts it, however well it separates it from others.
Adding `-tau log p(c)` to its logits, where p are its own label frequencies, corrects this without
any new knowledge (Menon et al.: Long-tail learning via logit adjustment, 2021,
https://arxiv.org/abs/2007.07314, Eq. 9). Remote accuracy is evidence of transfer only above that of
this control, which has no transfer (https://arxiv.org/abs/2011.05961 also moves the class prior).
Every client's `tau` is the one with the highest accuracy on held-out training images, the public
ones, which the method should therefore not use.
"""

from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jaxtyping import Float, Int

from kdjax.evals import _counting as counting
from kdjax.evals.confusion import own_classes
from kdjax.types import ConfigError, Evaluator

if TYPE_CHECKING:
  from kdjax.experiment import Experiment

TAUS = np.linspace(0, 2, 41)  # 0: no offset; 1: as if all classes were equally frequent


def make(experiment: "Experiment", *, batch: int) -> Evaluator:
  """The evaluator.

  Args:
    experiment: Experiment.
    batch: images per pass; a multiple of the mesh's `data` axis.

  Returns:
    state -> a list over replicas of {'offset_tau', 'offset_local_accuracy',
    'offset_remote_accuracy', 'offset_combined_accuracy': {'main': one per client}}, for main heads;
    accuracies are defined as in `confusion`.

  Raises:
    ConfigError: for an invalid batch size, or without public examples of the clients' own source.
  """
  env, data, config = experiment.env, experiment.data, experiment.config
  if config["public_source"] or not all(map(len, data.shards.public)) or config["public_reuse"]:
    hint = "above 0, of `source` itself and not private: tau is chosen on public examples"
    raise ConfigError("public_share", config["public_share"], hint)
  if env.population.holders != env.K:
    raise ConfigError("evals", "prior_offset", "models that travel have no labels of their own")
  prior = log_prior(data.shards.label_counts)

  def count(predicted, label, mask):
    """Correct answers for each tau and class, f32[R*K, T, C]."""
    true = jax.nn.one_hot(label, env.task.classes) * mask[:, None]

    def of_client(logits, prior):  # f32[N, C], f32[C]
      adjusted = (logits - TAUS[:, None, None] * prior).argmax(-1)  # [T, N]
      return (adjusted == label) @ true

    counted = [
      jax.vmap(of_client)(logits[:, :, 0], env.local_rows(g, prior))
      for g, logits in enumerate(predicted[""])
    ]
    return env.gather(counted)

  counts = counting.over(experiment, "prior_offset", batch, count)
  if "" not in counting.entries(experiment):
    raise ConfigError("evals", "prior_offset", "this method tests no clients: leave it out")
  own = own_classes(data.shards)[list(env.local_holders)].reshape(env.R, -1, env.task.classes)

  def by_replica(counted):
    return counted.reshape(env.R, -1, *counted.shape[1:])

  def run(state):
    test = data.source.test
    correct = by_replica(counts(state, test, np.arange(len(test.labels))))
    total = np.bincount(test.labels, minlength=env.task.classes)
    results = []
    for r, public in enumerate(data.shards.public):
      chosen = by_replica(counts(state, data.public, public))[r].sum(-1).argmax(-1)
      with_offset = correct[r][np.arange(len(chosen)), chosen]  # [K, C]
      results.append(summarise(chosen, with_offset, total, own[r]))
    return results

  return run


def log_prior(label_counts: Int[np.ndarray, "K C"]) -> Float[np.ndarray, "K C"]:
  """log((n + 1) / (N + C)) per client and class, for its n of N examples; finite for n = 0."""
  n = label_counts + 1.0
  return np.log(n / n.sum(1, keepdims=True))


def summarise(
  chosen: Int[np.ndarray, " K"],
  right: Int[np.ndarray, "K C"],
  total: Int[np.ndarray, " C"],
  own: np.ndarray,
) -> dict[str, Any]:
  """One replica's results.

  Args:
    chosen: i64[K], indices into `TAUS`.
    right: i64[K, C], test examples by class that a client gets right with its tau.
    total: i64[C], test examples by class.
    own: bool[K, C], its own classes.
  """
  out = {"offset_tau": {"main": TAUS[chosen].tolist()}}
  for name, classes in (("local", own), ("remote", ~own), ("combined", np.ones_like(own))):
    tested = (total * classes).sum(-1)
    if (tested > 0).all():
      out[f"offset_{name}_accuracy"] = {"main": ((right * classes).sum(-1) / tested).tolist()}
  return out
