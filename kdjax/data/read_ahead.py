"""Images that are not resident, read ahead of the steps that need them, by threads or processes.

What is read is cut into pieces of a few images: piece n is a function of the plan alone, so threads
and worker processes can read any of them, and the order, the batches and a place to go on from are
the same however many there are.
"""

import contextlib
import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from kdjax.core.machine import cores
from kdjax.data import worker
from kdjax.data.example_set import ExampleSet, ReadParts
from kdjax.data.streams import Streams
from kdjax.data.unreadable import Replacing, replacing
from kdjax.types import Feed, Phase, Pos

PIECE = 64  # images, at most


@dataclasses.dataclass(frozen=True, eq=False)
class ToRead:
  """One half of a phase's batch that has to be read."""

  name: str  # private or public
  pieces: int
  needed: np.ndarray  # bool[R*K, size], what this process's devices look at


@dataclasses.dataclass(frozen=True, eq=False)
class Pieces:
  """All that a run has still to read, in order; it pickles, for worker processes."""

  streams: Streams
  reads: dict[str, Replacing]  # {half: what reads it}
  names: tuple[str, ...]  # of the phases
  feeds: tuple[Feed | None, ...]  # theirs, without functions that hold on to the method
  halves: tuple[tuple[ToRead, ...], ...]  # of each phase
  phase: np.ndarray  # i32[steps]
  positions: np.ndarray  # i64[steps, 7], every step's Pos
  ends: np.ndarray  # i64[steps], pieces up to and including each step

  def __len__(self):
    return int(self.ends[-1]) if len(self.ends) else 0

  def __call__(self, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Piece n: ([<= PIECE, *shape], which of them are damaged)."""
    step = int(np.searchsorted(self.ends, n, side="right"))
    halves = self.halves[self.phase[step]]
    n = int(n - self.ends[step] + sum(half.pieces for half in halves))
    for half in halves:
      if n < half.pieces:
        return self.reads[half.name](np.array_split(_unique(self, step)[half.name], half.pieces)[n])
      n -= half.pieces
    raise IndexError(n)

  def reader(self, number: int, parts: Iterator, note: Callable = lambda *_: None) -> ReadParts:
    """The `read` of feed.with_images for a step of phase `number` whose pieces come next.

    `note` is told of damaged ones: (half, indices i64[n]).
    """
    left = {half.name: half.pieces for half in self.halves[number]}

    def read(name, index):
      done = 0
      for examples, damaged in itertools.islice(parts, left[name]):
        note(name, index[done : done + len(examples)][damaged])
        done += len(examples)
        yield examples

    return read


def plan(
  streams: Streams,
  sets: dict[str, ExampleSet],
  phases: Sequence[Phase],
  needed: Callable[[int], np.ndarray],
  steps: Sequence[tuple[int, Pos]],
) -> Pieces:
  """The Pieces of a run.

  Args:
    streams: Streams.
    sets: {half: ExampleSet}; those in memory are left out.
    phases: every phase of the method, by its number.
    needed: size -> bool[R*K, size], which examples to read.
    steps: [(phase's number, Pos)].
  """
  reads = {name: replacing(s) for name, s in sets.items() if s.array is None and s.read}
  turns = 1 + max((pos.round for _, pos in steps), default=0)
  halves = tuple(_halves(p.feed, reads, needed, len(streams.seeds)) for p in phases)
  count = np.array([sum(half.pieces for half in some) for some in halves], np.int64)
  phase = np.array([number for number, _ in steps], np.int32)
  return Pieces(
    streams=streams,
    reads=reads,
    names=tuple(p.name for p in phases),
    feeds=tuple(p.feed and _portable(streams, p.feed, turns) for p in phases),
    halves=halves,
    phase=phase,
    positions=np.array([pos for _, pos in steps], np.int64).reshape(len(steps), len(Pos._fields)),
    ends=np.cumsum(count[phase]),
  )


def _halves(feed, reads, needed, replicas):
  found = []
  for name in ("private", "public") if feed else ():
    size = getattr(feed, name)
    if size and name in reads:
      mask = needed(size)
      images = min(mask.sum(), replicas * size) if feed.common and name == "public" else mask.sum()
      found.append(ToRead(name, max(1, -(-int(images) // PIECE)), mask))
  return tuple(found)


def _portable(streams, feed, turns):
  """A Feed whose owners are a table, and which knows neither servers nor crops."""
  if feed.owner is not None:
    table = np.zeros((turns, len(streams.identity)), np.int64)
    for i in streams.takes_part(feed):
      table[:, i] = [feed.owner(round, i) for round in range(turns)]
    feed = feed._replace(owner=Owners(table))
  return feed._replace(server=None, crop=None)


@dataclasses.dataclass(frozen=True, eq=False)
class Owners:
  """`Feed.owner` as a table."""

  table: np.ndarray  # i64[rounds, K]

  def __call__(self, round: int, client: int) -> int:
    """Whose data client `client` works on in a round."""
    return int(self.table[round, client])


@functools.lru_cache(maxsize=4)
def _unique(pieces, step):
  """{half: the examples that a step needs, i64[n], each once}."""
  number = pieces.phase[step]
  pos = Pos(*pieces.positions[step].tolist())
  batch = pieces.streams.batch(pieces.feeds[number], pieces.names[number], pos)
  return {h.name: np.unique(batch[h.name].index[h.needed]) for h in pieces.halves[number]}


@contextlib.contextmanager
def reading(pieces: Pieces, *, workers: int, ahead: int) -> Iterator[Iterator]:
  """An iterator over all pieces, read by Grain in the background until the context ends.

  Args:
    pieces: Pieces.
    workers: processes that read; 0: threads of this process.
    ahead: steps that are read ahead.

  Raises:
    ConfigError: for a source that cannot be sent to processes.
  """
  if not len(pieces):
    yield iter(())
    return
  import grain  # imported where it is used: it takes a second

  workers = min(workers, len(pieces))
  images = grain.MapDataset.range(len(pieces)).map(pieces)
  most = max((sum(h.pieces for h in some) for some in pieces.halves), default=1)
  buffer = max(1, ahead * most)
  if workers:
    _parse_flags()
    alone = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
    many = grain.MultiprocessingOptions(workers, per_worker_buffer_size=-(-buffer // workers))
    images = images.to_iter_dataset(alone).mp_prefetch(many, worker.begin)
  else:
    threads = min(cores(), buffer)
    images = images.to_iter_dataset(grain.ReadOptions(threads, prefetch_buffer_size=buffer))
  iterator = iter(images)
  try:
    yield iterator
  finally:
    iterator.close()


def _parse_flags():
  """Grain's processes ask absl for flags, which only a program that parsed them may do."""
  from absl import flags

  if not flags.FLAGS.is_parsed():
    flags.FLAGS.mark_as_parsed()
