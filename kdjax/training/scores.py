"""What the evaluators found, as the log wants it, and the one number by which the best is kept."""

from collections.abc import Sequence

import numpy as np

from kdjax.core import metrics


def best(heads: tuple[str, ...], results: list[dict] | None) -> float | None:
  """The number by which the best checkpoint is kept: mean shared accuracy over replicas, clients.

  Of the clients' last head; of the method's first entry, where it tests no clients. None where
  no evaluator found any.
  """
  found = [r["shared_accuracy"] for r in results or () if "shared_accuracy" in r]
  if not found:
    return None
  head = heads[-1] if heads[-1] in found[0] else next(iter(found[0]))
  return float(np.mean([x[head] for x in found]))


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
  for key, found in results[0].items():
    for name, value in found.items() if isinstance(found, dict) else ():
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
