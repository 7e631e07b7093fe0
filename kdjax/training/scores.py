"""The evaluators' results in the form of the log, and the score of the best checkpoint."""

from collections.abc import Sequence

import numpy as np

from kdjax.core import metrics


def best(
  heads: tuple[str, ...],
  results: list[dict] | None,
  *,
  clients: int = 0,
  liars: Sequence[int] = (),
) -> float | None:
  """The score by which the best checkpoint is kept: mean shared accuracy of the clients' last head.

  The mean is over clients and replicas, without clients that lie. If the method tests no clients,
  it is that of the method's first entry. None if no evaluator measured it.

  Args:
    heads: the names of the clients' heads.
    results, clients, liars: as in `means`; None: no evaluator has run.
  """
  accuracies = [r["shared_accuracy"] for r in results or () if "shared_accuracy" in r]
  if not accuracies:
    return None
  head = heads[-1] if heads[-1] in accuracies[0] else next(iter(accuracies[0]))
  every = [_honest(np.atleast_1d(accuracy[head]), clients, liars) for accuracy in accuracies]
  return float(np.mean(every))


def means(
  results: list[dict], seeds: Sequence[int], *, clients: int = 0, liars: Sequence[int] = ()
) -> dict[str, float]:
  """What the log has of every {key: {name: a number, or one per client}}, flat.

  'KEY/NAME' is the mean over clients and replicas, 'KEY/NAME/std' the standard deviation over all
  of them, and with several replicas 'KEY/NAME/seedN' the mean over the clients of each. Matrices
  and deeper trees are in `summary.json` only. Clients that lie are left out, as the closing table
  leaves them out, and so are clients without a number.

  Args:
    results: one per replica, as `types.Evaluator` says.
    seeds: of the replicas.
    clients: K of one replica; values of this length are one per client.
    liars: the clients that lie, in every replica.
  """
  flat = {}
  for key, entries in results[0].items():
    for name, value in entries.items() if isinstance(entries, dict) else ():
      if isinstance(value, dict) or np.ndim(value) > 1:
        continue
      by_seed = [_honest(np.atleast_1d(r[key][name]), clients, liars) for r in results]
      values = metrics.known(np.concatenate(by_seed))
      flat[f"{key}/{name}"] = metrics.mean_of_known(values)
      if values.size > 1:
        flat[f"{key}/{name}/std"] = values.std()
      for seed, own in zip(seeds, by_seed, strict=True) if len(seeds) > 1 else ():
        flat[f"{key}/{name}/seed{seed}"] = metrics.mean_of_known(own)
  return flat


def _honest(values, clients, liars):
  """The values of a replica without those of clients that lie."""
  return np.delete(values, list(liars)) if len(values) == clients else values
