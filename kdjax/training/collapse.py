"""Heads that say one class for everything, as two evaluations in a row find them."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from kdjax.core import agreement
from kdjax.core.env import Env
from kdjax.training.writer import Silent, Writer

if TYPE_CHECKING:
  from kdjax.experiment import Experiment


class Collapse(NamedTuple):
  """A head that said one class for every test example."""

  replica: int
  client: int | None  # its global number; None: a model that is no client's
  head: str  # as in `shared_accuracy`
  label: int  # the class
  since: int  # training batches at the first evaluation that found it so
  until: int  # at the last one


class CollapseMonitor:
  """Follows the heads over a run's evaluations, of which `evals.accuracy` counts what they say."""

  def __init__(self, experiment: "Experiment") -> None:
    """Knows of none."""
    self.env = experiment.env
    self.counts = experiment.data.shards.label_counts[list(self.env.local_holders)]
    self.test = experiment.data.source.test.labels
    self.untaught = () if _learns(experiment) else self.env.heads[1:]
    self.found: dict[tuple, Collapse] = {}  # the newest of each head, once or oftener
    self.named: list[Collapse] = []  # those over twice or oftener, the first one first

  def note(self, batches: int, results: list[dict[str, Any]]) -> list[Collapse]:
    """Takes what an evaluation found; returns the heads that are to be named for it now."""
    if not any("predictions_by_class" in found for found in results):
      return []
    before, self.found, new = self.found, {}, []
    for r, client, head, label in self._saying_one_class(results):
      one = Collapse(r, client, head, label, batches, batches)
      earlier = before.get(one[:4])
      if earlier:
        one = earlier._replace(until=batches)
        if earlier in self.named:
          self.named[self.named.index(earlier)] = one
        else:
          self.named.append(one)
          new.append(one)
      self.found[one[:4]] = one
    return new

  def _saying_one_class(self, results) -> Iterator[tuple[int, int | None, str, int]]:
    """(replica, client, head, class) of every head that says one class, and should not."""
    if len(np.unique(self.test)) < 2:
      return
    here = len(self.counts) // len(results)
    for r, found in enumerate(results):
      for head, said in found.get("predictions_by_class", {}).items():
        for i, row in enumerate(np.asarray(said) if head not in self.untaught else ()):
          if np.count_nonzero(row) != 1:
            continue
          label, client = int(row.argmax()), None
          if len(said) == here:
            client = _number(self.env, r, i)
            if not np.delete(self.counts[r * here + i], label).any():
              continue  # the only class that it holds
          yield r, client, head, label

  def record(self) -> dict[str, list]:
    """For a checkpoint."""
    return {"found": list(map(list, self.found.values())), "named": list(map(list, self.named))}

  def restore(self, record: dict[str, list]) -> None:
    """Goes on from what `record` returned."""
    found = [Collapse(*one) for one in record.get("found", ())]
    self.found = {one[:4]: one for one in found}
    self.named = [Collapse(*one) for one in record.get("named", ())]

  def summary(self) -> list[dict[str, Any]]:
    """The heads that were named, for `summary.json`."""
    keys = ("replica", "client", "head", "class", "since", "until")
    return [dict(zip(keys, one, strict=True)) for one in self.named]


def _learns(experiment):
  """Whether anybody has a teacher, where auxiliary heads learn along the graph."""
  return not experiment.algorithm.uses_graph or experiment.env.graph.union().any()


def _number(env: Env, r: int, i: int) -> int:
  """The global number of a replica's i-th client; in a peer, of the i-th that trains here."""
  return env.local_ids[i] if env.is_peer else r * env.K + i


def report(found: list[Collapse], log: Writer | Silent, batches: int) -> None:
  """Says of heads, once, that they say one class for everything; in one line of all that fell."""
  for one in found:
    numbers = {"client": one.client, f"class/{one.head}": one.label}
    log.write(batches, "collapse", numbers | {"since": one.since, "replica": one.replica})
  if found:
    agreement.say(
      f"collapsed, one class for every test example since step {found[0].since}: "
      f"{', '.join(map(_words, found))}; try a lower optim.lr, or a network with normalisation; "
      "for a table also normalise.mean=('data',) and normalise.std=('data',)"
    )


def _words(one):
  """Whose head says which class."""
  who = f"head {one.head}" if one.client is None else f"client {one.client}'s head {one.head}"
  return f"{who} (class {one.label})"
