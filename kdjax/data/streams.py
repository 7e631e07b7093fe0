"""Which examples each client sees: a pure function of (seed, phase, step, client), on the host.

Every client walks through its own index list, in a fresh permutation each epoch; there is no
shuffle buffer and no state, so any step's batch can be made at any time.
"""

import collections
import dataclasses
import itertools
from collections.abc import Iterable
from typing import Any

import numpy as np

from kdjax.core.random import EVERYONE, host_rng
from kdjax.types import Drawn, Feed, Pos, Shards

REST = np.zeros(1, np.int64)  # the list of a client that takes no part


KEPT = 2  # permutations of a list that stay in memory: a batch may reach into the next epoch


class _Permutations:
  """Those of one experiment's lists, `KEPT` of each in memory; it pickles without them."""

  def __init__(self) -> None:
    """None yet."""
    self._kept: dict[tuple, dict[int, np.ndarray]] = {}  # {(n, *words): {epoch: i32[n]}}

  def __call__(self, n: int, epoch: int, *words: Any) -> np.ndarray:
    """The permutation i32[n] of an epoch of the list that `words` name."""
    kept = self._kept.setdefault((n, *words), {})
    found = kept.get(epoch)
    if found is None:
      found = host_rng(*words, epoch).permutation(n).astype(np.int32)
      for old in list(kept)[: 1 - KEPT]:  # threads may have taken it out already
        kept.pop(old, None)
      kept[epoch] = found
    return found

  def __reduce__(self):  # worker processes make their own
    return type(self), ()


def _walk(n, start, count, words, permutation):
  """Places i64[count] from `start` on in an endless row of permutations of n examples."""
  end = start + count
  epochs = range(start // n, (end - 1) // n + 1)
  parts = [permutation(n, e, *words)[max(start - e * n, 0) : end - e * n] for e in epochs]
  return np.concatenate(parts)


@dataclasses.dataclass(frozen=True, eq=False)
class Streams:
  """The index streams of an experiment."""

  shards: Shards
  members: tuple[tuple[int, ...], ...]  # over cohorts: client numbers in their replica
  labels: np.ndarray  # i32 of the private source
  public_labels: np.ndarray  # i32 of the public source; -1 where they may not be used
  seeds: tuple[int, ...]  # of the R replicas
  identity: tuple[int, ...]  # [K]
  _permutation: _Permutations = dataclasses.field(default_factory=_Permutations, init=False)

  def epoch_steps(self, feed: Feed, round: int) -> int:
    """Steps that the longest client needs for `feed.epochs` passes in a round of an epoch feed."""
    return feed.epochs * max(-(-len(x) // size) for x, size in self._lists(feed, round))

  def _lists(self, feed, round):
    if feed.private:
      clients = itertools.product(range(len(self.seeds)), self.takes_part(feed))
      return [(self._held(feed, round, r, i), feed.private) for r, i in clients]
    return [(x[: feed.sample] if feed.sample else x, feed.public) for x in self.shards.public]

  def processed(self, visits: Iterable[Any]) -> np.ndarray:
    """Private examples that went through a model in these visits, by whose they are: i64[holders].

    Holders of all replicas in order; padding does not count.
    """
    per_replica = len(self.shards.private) // len(self.seeds)
    total = np.zeros(len(self.shards.private), np.int64)
    for v in visits:
      feed = v.phase.feed
      if feed is None or not feed.private:
        continue
      for r, i in itertools.product(range(len(self.seeds)), self.takes_part(feed)):
        owner = r * per_replica + (feed.owner(v.round, i) if feed.owner else i)
        total[owner] += examples(feed, feed.private, len(self.shards.private[owner]), v.calls)
    return total

  def images(self, feed: Feed, round: int, begin: int, end: int) -> int:
    """Examples that go through models in calls begin .. end of a visit; padding does not count."""
    clients = list(itertools.product(range(len(self.seeds)), self.takes_part(feed)))
    halves = []
    if feed.private:
      halves.append((feed.private, [len(self._held(feed, round, r, i)) for r, i in clients]))
    if feed.public:
      halves.append((feed.public, [feed.sample or len(self.shards.public[r]) for r, _ in clients]))
    return sum(
      (examples(feed, size, n, end) - examples(feed, size, n, begin)) * among
      for size, lengths in halves
      for n, among in collections.Counter(lengths).items()
    )

  def takes_part(self, feed: Feed) -> list[int]:
    """Client numbers in their replica."""
    cohorts = range(len(self.members)) if feed.cohorts is None else feed.cohorts
    return sorted(i for g in cohorts for i in self.members[g])

  def _held(self, feed, round, r, i):
    """The private examples that client i of replica r works on in a round."""
    owner = feed.owner(round, i) if feed.owner else i
    return self.shards.private[r * (len(self.shards.private) // len(self.seeds)) + owner]

  def batch(self, feed: Feed, phase: str, pos: Pos) -> dict[str, Drawn]:
    """One step's indices for all clients.

    Returns:
      {'private': Drawn, 'public': Drawn}, those that the feed asks for; leaves [R*K, size], no
      images. The rows of clients that take no part are zeros, mask 0.
    """
    part = self.takes_part(feed)
    clients = list(itertools.product(range(len(self.seeds)), range(len(self.identity))))
    halves = {}
    if feed.private:
      lists = [self._held(feed, pos.round, r, i) if i in part else REST for r, i in clients]
      rows = [
        self._rows(feed, feed.private, phase, "private", pos, r, i, x)
        for (r, i), x in zip(clients, lists, strict=True)
      ]
      half = _drawn(rows, lists, self.labels)
      if feed.crop:
        which = np.array([feed.crop(pos.round, k) for k in range(len(clients))], np.int32)
        half = half._replace(crop=np.broadcast_to(which[:, None], half.row.shape))
      halves["private"] = half
    if feed.public:
      shared = [self._public_list(feed, r, pos) for r in range(len(self.seeds))]
      lists = [shared[r] if i in part else REST for r, i in clients]
      rows = [
        self._rows(feed, feed.public, phase, "public", pos, r, i, x)
        for (r, i), x in zip(clients, lists, strict=True)
      ]
      halves["public"] = _drawn(rows, lists, self.public_labels)
    return halves

  def _rows(self, feed, size, phase, half, pos, r, i, held):
    """(row i64[size], mask f32[size]) of client i of replica r, whose list is `held`."""
    if held is REST:
      return np.zeros(size, np.int64), np.zeros(size, np.float32)
    name = EVERYONE if feed.common and half == "public" else self.identity[i]
    words = (self.seeds[r], phase, half, name)
    return _rows(feed, size, len(held), pos, words, self._permutation)

  def _public_list(self, feed, r, pos):
    """The public examples of this round; a subset is the same for every phase of the round."""
    public = self.shards.public[r]
    if not feed.sample:
      return public
    rng = host_rng(self.seeds[r], "public sample", pos.round)
    return rng.choice(public, feed.sample, replace=False)


def examples(feed: Feed, size: int, n: int, calls: int) -> int:
  """Unmasked examples of one client in the first `calls` of a visit, `size` a call out of n."""
  if feed.kind == "stream":
    return calls * size
  per_epoch = -(-n // size)
  epochs, rest = divmod(min(calls, feed.epochs * per_epoch), per_epoch)
  return epochs * n + rest * size


def _rows(feed, size, n, pos, words, permutation):
  """(row i64[size], mask f32[size]) of one client's list of n examples."""
  if feed.kind == "stream":
    return _walk(n, pos.phase_call * size, size, words, permutation), np.ones(size, np.float32)
  per_epoch = -(-n // size)
  epoch, step = divmod(pos.visit_call, per_epoch)
  if epoch >= feed.epochs:  # this client is done and rests
    return np.zeros(size, np.int64), np.zeros(size, np.float32)
  place = step * size + np.arange(size)
  order = permutation(n, pos.round * feed.epochs + epoch, *words)
  return order[place % n], (place < n).astype(np.float32)


def _drawn(rows, lists, labels):
  row = np.stack([r for r, _ in rows]).astype(np.int32)
  index = np.stack([x[r] for x, (r, _) in zip(lists, rows, strict=True)]).astype(np.int32)
  mask = np.stack([m for _, m in rows])
  return Drawn(index=index, label=labels[index], row=row, mask=mask)
