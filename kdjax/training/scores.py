"""What the evaluators found, as the log wants it, and the one number by which the best is kept."""

import numpy as np


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


def means(results: list[dict]) -> dict[str, float]:
  """Mean over clients and replicas of every {key: {name: number, or one per client}}, flat.

  Matrices and deeper trees are for `summary.json` alone. Where there is one number a client, the
  spread comes with it.
  """
  flat = {}
  for key, found in results[0].items():
    for name, value in found.items() if isinstance(found, dict) else ():
      if isinstance(value, dict) or np.ndim(value) > 1:
        continue
      values = np.concatenate([np.atleast_1d(r[key][name]) for r in results])
      flat[f"{key}/{name}"] = values.mean()
      if values.size > 1:
        flat[f"{key}/{name}/std"] = values.std()
  return flat
