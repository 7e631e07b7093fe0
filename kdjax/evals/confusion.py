"""Confusion matrices on test data, and accuracies over a client's own classes and the others.

Goldstein, Kachuee, Shiell, Sarrafzadeh: Real-Time Decentralized Knowledge Transfer at the Edge,
2020, https://arxiv.org/abs/2011.05961, Tables 1 and 2. Accuracies are fractions of test examples:
local over a client's own classes, remote over all others, combined over all. Among-remote accuracy
is remote accuracy where only the remote classes may be predicted; a shift of predictions from own
to remote classes cannot raise it. A client's own classes are its primary labels. Where the
partition has none, they are the classes of which it holds more private examples than its mean over
all classes.
"""

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Int

from kdjax.evals import _counting as counting
from kdjax.types import ConfigError, Evaluator, Shards

if TYPE_CHECKING:
  from kdjax.experiment import Experiment


def make(experiment: "Experiment", *, batch: int) -> Evaluator:
  """The evaluator.

  Args:
    experiment: Experiment.
    batch: test images per pass; a multiple of the mesh's `data` axis.

  Returns:
    state -> a list over replicas of dicts, see `summarise`; for the clients only, not for other
    entries that the method predicts.

  Raises:
    ConfigError: for an invalid batch size, or clients that have no private data of their own.
  """
  env, data = experiment.env, experiment.data
  test = data.source.test
  if env.population.holders != env.K:
    holders = f"the data of {env.population.holders} holders"
    hint = f"{env.K} models work on {holders}: no class is a model's own"
    raise ConfigError("evals", "confusion", hint)
  of_clients = own_classes(data.shards)
  of_replicas = of_clients[list(env.local_holders)].reshape(env.R, -1, env.task.classes)

  def count(logits, label, mask):
    """Test examples by true and predicted class, f32[K_g, H, C, C]; logits f32[K_g, N, H, C]."""
    predicted = jax.nn.one_hot(logits.argmax(-1), env.task.classes)
    true = jax.nn.one_hot(label, env.task.classes) * mask[:, None]
    return jnp.einsum("nt,knhp->khtp", true, predicted)

  def count_clients(predicted, label, mask):
    free, among = [], []
    for g, logits in enumerate(predicted[""]):
      own = env.local_rows(g, of_clients)[:, None, None]
      free.append(count(logits, label, mask))
      among.append(count(jnp.where(own, -jnp.inf, logits), label, mask))
    return env.gather(free), env.gather(among)

  counts = counting.over(experiment, "confusion", batch, count_clients)
  if "" not in counting.entries(experiment):
    raise ConfigError("evals", "confusion", "this method tests no clients: leave it out")

  def run(state):
    counted = counts(state, test, np.arange(len(test.labels)))
    free, among = (x.reshape(env.R, -1, *x.shape[1:]) for x in counted)
    results = [summarise(free[r], among[r], of_replicas[r], env.heads) for r in range(env.R)]
    common = set.intersection(*map(set, results))
    return [{k: v for k, v in result.items() if k in common} for result in results]

  return run


def own_classes(shards: Shards) -> Bool[np.ndarray, "clients C"]:
  """bool[R*K, C]: whether each class is a client's own; see the file's docstring."""
  counts = np.asarray(shards.label_counts)
  own = counts > counts.mean(1, keepdims=True)
  for k, labels in enumerate(shards.primary):
    if labels:
      own[k] = np.isin(np.arange(counts.shape[1]), labels)
  return own


def summarise(
  confusion: Int[np.ndarray, "K H C C"],
  among: Int[np.ndarray, "K H C C"],
  own: Bool[np.ndarray, "K C"],
  heads: tuple[str, ...],
) -> dict[str, Any]:
  """One replica's results.

  Args:
    confusion: i64[K, H, C, C], rows the true class.
    among: the same where a client chooses only among the classes that are not its own.
    own: bool[K, C].
    heads: H names.

  Returns:
    {'confusion': {head: K matrices}, 'local_accuracy', 'remote_accuracy', 'among_remote_accuracy',
    'combined_accuracy': {head: one per client}}. A key is left out where it is undefined for some
    client: without own classes, or without others.
  """
  total = confusion[:, 0].sum(-1)  # [K, C], the same for all heads
  correct = np.diagonal(confusion, axis1=-2, axis2=-1)  # [K, H, C]
  among_correct = np.diagonal(among, axis1=-2, axis2=-1)
  by_head = lambda x: {head: x[:, h].tolist() for h, head in enumerate(heads)}
  out = {"confusion": by_head(confusion)}
  kinds = {
    "local": (own, correct),
    "remote": (~own, correct),
    "among_remote": (~own, among_correct),
    "combined": (np.ones_like(own), correct),
  }
  for name, (classes, hits) in kinds.items():
    tested = (total * classes).sum(-1)  # [K]
    if (tested > 0).all():
      out[f"{name}_accuracy"] = by_head((hits * classes[:, None]).sum(-1) / tested[:, None])
  return out
