"""Collapsed heads: those that predict one class for every test example at two evaluations."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from kdjax.core import agreement
from kdjax.core.env import Env
from kdjax.training.writer import Silent, Writer

if TYPE_CHECKING:
  from kdjax.experiment import Experiment


class Collapse(NamedTuple):
  """A head that predicted one class for every test example."""

  replica: int
  client: int | None  # its global number; None: the model belongs to no client
  head: str  # as in `shared_accuracy`
  label: int  # the class
  since: int  # training batches at the first evaluation that found the head collapsed
  until: int  # training batches at the last such evaluation


class CollapseMonitor:
  """Follows the heads over a run's evaluations, by the predictions that `evals.accuracy` counts."""

  def __init__(self, experiment: "Experiment") -> None:
    """Knows of no collapsed head."""
    self.env = experiment.env
    self.counts = experiment.data.shards.label_counts[list(self.env.local_holders)]
    self.test = experiment.data.source.test.labels
    self.untaught = () if _learns(experiment) else self.env.heads[1:]
    # The heads with one class at the last evaluation, by (replica, client, head, class).
    self.single_class: dict[tuple, Collapse] = {}
    self.named: list[Collapse] = []  # heads with one class at two evaluations or more, in order

  def note(self, batches: int, results: list[dict[str, Any]]) -> list[Collapse]:
    """Registers an evaluation's results; returns the heads that have newly collapsed."""
    if not any("predictions_by_class" in result for result in results):
      return []
    before = self.single_class
    self.single_class = {}
    new = []
    for r, client, head, label in self._with_one_class(results):
      collapse = Collapse(r, client, head, label, batches, batches)
      earlier = before.get(collapse[:4])
      if earlier:
        collapse = earlier._replace(until=batches)
        if earlier in self.named:
          self.named[self.named.index(earlier)] = collapse
        else:
          self.named.append(collapse)
          new.append(collapse)
      self.single_class[collapse[:4]] = collapse
    return new

  def _with_one_class(self, results) -> Iterator[tuple[int, int | None, str, int]]:
    """(replica, client, head, class) of every head that wrongly predicts one class alone."""
    if len(np.unique(self.test)) < 2:
      return
    clients = len(self.counts) // len(results)
    for r, result in enumerate(results):
      for head, predicted in result.get("predictions_by_class", {}).items():
        for i, row in enumerate(np.asarray(predicted) if head not in self.untaught else ()):
          if np.count_nonzero(row) != 1:
            continue
          label = int(row.argmax())
          client = None
          if len(predicted) == clients:
            client = _number(self.env, r, i)
            if not np.delete(self.counts[r * clients + i], label).any():
              continue  # the client holds no other class
          yield r, client, head, label

  def record(self) -> dict[str, list]:
    """Returns the state that a checkpoint keeps."""
    single_class = list(map(list, self.single_class.values()))
    return {"found": single_class, "named": list(map(list, self.named))}

  def restore(self, record: dict[str, list]) -> None:
    """Continues from what `record` returned."""
    single_class = [Collapse(*entry) for entry in record.get("found", ())]
    self.single_class = {collapse[:4]: collapse for collapse in single_class}
    self.named = [Collapse(*entry) for entry in record.get("named", ())]

  def summary(self) -> list[dict[str, Any]]:
    """The collapsed heads, for `summary.json`."""
    keys = ("replica", "client", "head", "class", "since", "until")
    return [dict(zip(keys, collapse, strict=True)) for collapse in self.named]


def _learns(experiment):
  """Whether the auxiliary heads are trained: along a graph, only if any client has a teacher."""
  return not experiment.algorithm.uses_graph or experiment.env.graph.union().any()


def _number(env: Env, r: int, i: int) -> int:
  """The global number of a replica's i-th client; in a peer, of its own i-th client."""
  return env.local_ids[i] if env.is_peer else r * env.K + i


def report(new: list[Collapse], log: Writer | Silent, batches: int) -> None:
  """Reports newly collapsed heads: a log line for each, and one line on the terminal for all."""
  for head in new:
    numbers = {"client": head.client, f"class/{head.head}": head.label}
    log.write(batches, "collapse", numbers | {"since": head.since, "replica": head.replica})
  if new:
    agreement.say(
      f"collapsed, one class for every test example since step {new[0].since}: "
      f"{', '.join(map(_words, new))}; try a lower optim.lr, or a network with normalisation; "
      "for a table also normalise.mean=('data',) and normalise.std=('data',)"
    )


def _words(collapse):
  """Names a collapsed head and its class."""
  who = f"head {collapse.head}"
  if collapse.client is not None:
    who = f"client {collapse.client}'s {who}"
  return f"{who} (class {collapse.label})"
