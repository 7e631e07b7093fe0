"""Numbers of finished runs by seed, for verdicts, tables and figures."""

from typing import Any

import numpy as np

from kdjax.core import metrics
from kdjax.report import table
from kdjax.reproduce.claims import LAST_HEAD, Quantity
from kdjax.reproduce.runs import NotHere, Run, check_same
from kdjax.sweep.cli import finished
from kdjax.types import ConfigError

PERCENT = 100.0


def results(blocks: list[Run] | NotHere) -> list[dict[str, Any]] | None:
  """The results in summary.json of every seed of an arm, in order; None unless all have finished.

  Raises:
    ConfigError: for a folder that holds another experiment.
  """
  if isinstance(blocks, NotHere) or not all(finished(run.point) for run in blocks):
    return None
  found = []
  for run in blocks:
    check_same(run)
    record = table.read_runs(run.point.folder)[0]
    whole = record.summary or {}
    shared = {key: whole[key] for key in whole if key not in ("runs", "replicas")}
    sent = sum(whole.get("bytes_sent", {}).values()) / whole.get("replicas", 1)
    for replica, result in enumerate(table.results(record)):
      collapsed = [head for head in whole.get("collapsed", ()) if head["replica"] == replica]
      found.append(shared | result | {"bytes_sent": sent, "collapsed": collapsed})
  return found


def value(quantity: Quantity, result: dict[str, Any]) -> float:
  """A quantity of one seed: a fraction, or a plain number of summary.json without heads.

  Clients without a number are left out, as the closing table leaves them out.

  Raises:
    ConfigError: if the run did not measure the quantity.
  """
  found = result.get(quantity.metric)
  if isinstance(found, dict):
    found = found.get(list(found)[-1] if quantity.head == LAST_HEAD else quantity.head)
  if isinstance(found, dict) and quantity.distance is not None:
    found = found.get(str(quantity.distance))
  numbers = np.atleast_1d(np.array(found, float))  # None is NaN
  chosen = metrics.known(numbers[list(quantity.clients)] if quantity.clients else numbers)
  if chosen.size < 1 + quantity.spread:
    hint = "must be a number of summary.json, or {head: numbers}; the run has no such entry"
    raise ConfigError("quantity", str(quantity), hint)
  return float(chosen.std(ddof=1) if quantity.spread else chosen.mean())


def values(quantity: Quantity, found: list[dict[str, Any]]) -> np.ndarray:
  """A quantity in percent, one number per seed: f64[seeds]."""
  return PERCENT * np.array([value(quantity, result) for result in found])


def cost_of(key: str, result: dict[str, Any]) -> float:
  """A number of a seed's result by its dotted key; numbers by kind are added up."""
  found: Any = result
  for part in key.split("."):
    found = found[part]
  return float(sum(found.values()) if isinstance(found, dict) else found)
