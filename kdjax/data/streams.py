"""Which examples each client sees: a pure function of (seed, phase, step, client), on the host.

Every client walks through its own index list, in a fresh permutation each epoch; there is no
shuffle buffer and no state, so any step's batch can be made at any time.
"""

import dataclasses
import functools

import numpy as np

from kdjax.core.random import EVERYONE, host_rng
from kdjax.types import Feed, Half, Pos, Shards


@functools.lru_cache(maxsize=1024)
def _permutation(n, *words):
  return host_rng(*words).permutation(n).astype(np.int32)


def _walk(n, start, count, words):
  """Places i64[count] from `start` on in an endless row of permutations of n examples."""
  place = start + np.arange(count)
  epochs = range(int(place[0] // n), int(place[-1] // n) + 1)
  return np.concatenate([_permutation(n, *words, e) for e in epochs])[place - epochs[0] * n]


@dataclasses.dataclass(frozen=True, eq=False)
class Streams:
  """The index streams of an experiment."""

  shards: Shards
  labels: np.ndarray  # i32 of the private source
  public_labels: np.ndarray  # i32 of the public source; -1 where they may not be used
  seeds: tuple[int, ...]  # of the R replicas
  identity: tuple[int, ...]  # [K]

  def epoch_steps(self, feed: Feed) -> int:
    """Steps that the longest client needs for `feed.epochs` passes of an epoch feed."""
    return feed.epochs * max(-(-len(x) // size) for x, size in self._lists(feed))

  def _lists(self, feed):
    if feed.private:
      return [(x, feed.private) for x in self.shards.private]
    return [(x[: feed.sample] if feed.sample else x, feed.public) for x in self.shards.public]

  def batch(self, feed: Feed, phase: str, pos: Pos) -> dict[str, Half]:
    """One step's indices for all clients.

    Returns:
      {'private': Half, 'public': Half}, those that the feed asks for; leaves [R*K, size], `image`
      and `key` None.
    """
    halves = {}
    if feed.private:
      rows = [self._private(feed, phase, pos, k) for k in range(len(self.shards.private))]
      halves["private"] = _half(rows, self.shards.private, self.labels)
    if feed.public:
      lists = [self._public_list(feed, r, pos) for r in range(len(self.seeds))]
      rows = [
        self._public(feed, phase, pos, r, name, len(lists[r]))
        for r in range(len(self.seeds))
        for name in self.identity
      ]
      per_client = [x for x in lists for _ in self.identity]
      halves["public"] = _half(rows, per_client, self.public_labels)
    return halves

  def _private(self, feed, phase, pos, k):
    r, i = divmod(k, len(self.identity))
    words = (self.seeds[r], phase, "private", self.identity[i])
    return _rows(feed, feed.private, len(self.shards.private[k]), pos, words)

  def _public(self, feed, phase, pos, r, name, n):
    who = (EVERYONE,) if feed.common else (name,)
    return _rows(feed, feed.public, n, pos, (self.seeds[r], phase, "public", *who))

  def _public_list(self, feed, r, pos):
    """The public examples of this round; a subset is the same for every phase of the round."""
    public = self.shards.public[r]
    if not feed.sample:
      return public
    rng = host_rng(self.seeds[r], "public sample", pos.round)
    return rng.choice(public, feed.sample, replace=False)


def _rows(feed, size, n, pos, words):
  """(row i64[size], mask f32[size]) of one client's list of n examples."""
  if feed.kind == "stream":
    return _walk(n, pos.count * size, size, words), np.ones(size, np.float32)
  per_epoch = -(-n // size)
  epoch, step = divmod(pos.i, per_epoch)
  if epoch >= feed.epochs:  # this client is done and rests
    return np.zeros(size, np.int64), np.zeros(size, np.float32)
  place = step * size + np.arange(size)
  order = _permutation(n, *words, pos.round * feed.epochs + epoch)
  return order[place % n], (place < n).astype(np.float32)


def _half(rows, lists, labels):
  row = np.stack([r for r, _ in rows]).astype(np.int32)
  index = np.stack([x[r] for x, (r, _) in zip(lists, rows, strict=True)]).astype(np.int32)
  mask = np.stack([m for _, m in rows])
  return Half(image=None, label=labels[index], index=index, row=row, mask=mask)
