"""Directed graphs over the K clients of a replica, from student to teacher, and their schedules.

`adjacency[i, j]` is true where client i learns from client j: edges point from student to teacher,
as in Zhmoginov et al., Section 3.1. A graph is a traced value, so a change of graph in a run needs
no recompilation.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Int
from scipy.sparse import csgraph

from kdjax.core.random import host_rng
from kdjax.types import ConfigError

# Above this share of clients as neighbours, the complement of a regular graph is drawn; with more
# than ALL_PAIRS clients, above half of them.
DENSE = 3 / 4
# Up to this many clients, a random regular graph weighs all pairs for every edge, so that a seed
# gives the same graph as in earlier versions. That takes K^2 numbers per edge. Above, two ends are
# drawn from a list.
ALL_PAIRS = 256
SPARSE = 1 / 4  # above this share of all pairs as edges, SciPy's distances take K^3 steps
FEW = 8  # distances up to this many hops are computed by matrix products
MISSES = 64  # after this many failed draws in a row, a check whether any pair is left to join
KINDS = ("complete", "islands", "cycle", "chain", "star", "random_regular", "edges", "none")


def _from_edges(K, edges):
  adjacency = np.zeros((K, K), bool)
  for student, teacher in edges:
    adjacency[student, teacher] = True
  return adjacency


def complete(K: int) -> Bool[np.ndarray, "K K"]:
  """Every client learns from every other; bool[K, K]."""
  return ~np.eye(K, dtype=bool)


def islands(K: int, size: int) -> Bool[np.ndarray, "K K"]:
  """Groups of `size` consecutive clients, complete within and without edges between; bool[K, K]."""
  group = np.arange(K) // size
  return (group[:, None] == group[None, :]) & complete(K)


def cycle(K: int) -> Bool[np.ndarray, "K K"]:
  """Client i learns from client i + 1, the last from the first; bool[K, K]."""
  return _from_edges(K, [(i, (i + 1) % K) for i in range(K) if K > 1])


def chain(K: int) -> Bool[np.ndarray, "K K"]:
  """Client i learns from client i + 1, and the last one has no teacher; bool[K, K]."""
  return _from_edges(K, [(i, i + 1) for i in range(K - 1)])


def star(K: int) -> Bool[np.ndarray, "K K"]:
  """Client 0 learns from all others, and all others learn from it; bool[K, K]."""
  return _from_edges(K, [e for i in range(1, K) for e in ((0, i), (i, 0))])


def random_regular(K: int, degree: int, seed: int) -> Bool[np.ndarray, "K K"]:
  """A random undirected graph in which every client has `degree` neighbours; bool[K, K].

  Steger and Wormald's pairing (Combinatorics, Probability and Computing, 1999): join random free
  ends that make neither a loop nor a double edge, and start again when no pair is left to join.
  For dense graphs that almost never succeeds, so the complement is drawn instead.
  """
  if degree > (DENSE if K <= ALL_PAIRS else 1 / 2) * K:
    return complete(K) & ~random_regular(K, K - 1 - degree, seed)
  rng = host_rng(seed, "graph")
  attempt = _weighing_pairs if K <= ALL_PAIRS else _drawing_ends
  while (found := attempt(K, degree, rng)) is None:
    pass
  return found


def _weighing_pairs(K, degree, rng):
  """A regular graph by draws from the pairs that can be joined; None if none is left too early."""
  adjacency = np.zeros((K, K), bool)
  free = np.full(K, degree)
  while free.sum():
    weight = np.triu(np.outer(free, free) * ~adjacency, 1).ravel()
    if not weight.any():
      return None
    i, j = divmod(rng.choice(K * K, p=weight / weight.sum()), K)
    adjacency[i, j] = adjacency[j, i] = True
    free[[i, j]] -= 1
  return adjacency


def _drawing_ends(K, degree, rng):
  """The same distribution by draws of two free ends, repeated if these cannot be joined."""
  adjacency = np.zeros((K, K), bool)
  ends = np.repeat(np.arange(K), degree).tolist()
  misses = 0
  while ends:
    first, second = sorted(rng.integers(len(ends), size=2).tolist())
    i, j = ends[first], ends[second]
    if i != j and not adjacency[i, j]:
      adjacency[i, j] = adjacency[j, i] = True
      for place in (second, first):  # the later one first, as the last end takes its place
        ends[place] = ends[-1]
        ends.pop()
      misses = 0
      continue
    misses += 1
    if misses % MISSES == 0:
      left = np.unique(ends)
      if not (~adjacency[np.ix_(left, left)] & complete(len(left))).any():
        return None
  return adjacency


def adjacency(
  kind: str, K: int, *, island: int, degree: int, edges: Sequence[Any], seed: int
) -> Bool[np.ndarray, "K K"]:
  """One graph by name.

  Args:
    kind: an entry of `KINDS`.
    K: clients.
    island: clients per island, for 'islands'.
    degree: neighbours of every client, for 'random_regular'.
    edges: pairs (student, teacher), for 'edges'.
    seed: for 'random_regular'.

  Returns:
    bool[K, K].

  Raises:
    ConfigError: for an unknown kind, a client number out of range, or invalid sizes.
  """
  if kind == "islands":
    if not 1 <= island <= K or K % island:
      raise ConfigError("graph.island", island, f"must divide the number of clients, {K}")
    return islands(K, island)
  if kind == "random_regular":
    if not 0 <= degree < K or K * degree % 2:
      hint = f"must lie in 0..{K - 1} and give an even product with the {K} clients"
      raise ConfigError("graph.degree", degree, hint)
    return random_regular(K, degree, seed)
  if kind == "edges":
    if not edges:
      raise ConfigError("graph.edges", edges, "at least one (student, teacher); or kind='none'")
    for edge in edges:
      pair = isinstance(edge, list | tuple) and len(edge) == 2
      if not pair or not all(type(v) is int for v in edge):
        raise ConfigError("graph.edges", edge, "an edge is a pair (student, teacher)")
      if not all(0 <= v < K for v in edge):
        raise ConfigError("graph.edges", edge, f"client numbers must lie in 0..{K - 1}")
      if edge[0] == edge[1]:
        raise ConfigError("graph.edges", edge, "a client is not its own teacher")
    return _from_edges(K, edges)
  if kind == "none":
    return np.zeros((K, K), bool)
  simple = {"complete": complete, "cycle": cycle, "chain": chain, "star": star}
  if kind not in simple:
    raise ConfigError("graph.kind", kind, "each name must be one of " + ", ".join(KINDS))
  return simple[kind](K)


@dataclasses.dataclass(frozen=True)
class Schedule:
  """Graphs that take turns, each for `every` training batches."""

  adjacency: np.ndarray  # bool[S, K, K]
  every: int  # 0: the first graph holds for the whole run

  def at(self, count: int) -> Bool[np.ndarray, "K K"]:
    """The graph bool[K, K] after `count` training batches."""
    turn = count // self.every if self.every else 0
    return self.adjacency[turn % len(self.adjacency)]

  def union(self) -> Bool[np.ndarray, "K K"]:
    """The edges bool[K, K] of all graphs together."""
    return np.asarray(self.adjacency.any(0))


def make(
  K: int, *, kind: str, every: int, island: int, degree: int, edges: Sequence[Any], seed: int
) -> Schedule:
  """The schedule of `config.graph`; `kind` is one name, or several separated by commas.

  Raises:
    ConfigError: see `adjacency`; also where several graphs have no period, or one graph has one.
  """
  kinds = [k.strip() for k in kind.split(",")]
  if every < 0 or (len(kinds) > 1) != (every > 0):
    hint = "the batches each graph holds: above 0 for several graphs, 0 for a single one"
    raise ConfigError("graph.every", every, hint)
  sizes: dict[str, Any] = {"island": island, "degree": degree, "edges": edges}
  graphs = [adjacency(k, K, seed=seed + turn, **sizes) for turn, k in enumerate(kinds)]
  return Schedule(np.stack(graphs), every)


def distances(adjacency: Bool[np.ndarray, "K K"]) -> Int[np.ndarray, "K K"]:
  """Hops from student to teacher along the edges; i64[K, K], 0 on the diagonal, -1 unreachable."""
  hops = _few_hops(adjacency) if adjacency.mean() > SPARSE else None
  if hops is None:
    far = csgraph.shortest_path(adjacency, unweighted=True)
    hops = np.where(np.isinf(far), -1, far).astype(np.int64)
  return hops


def _few_hops(adjacency):
  """The distances by one matrix product per hop; None where a distance is above `FEW` + 1."""
  hops = np.where(np.eye(len(adjacency), dtype=bool), 0, -1)
  edges = adjacency.astype(np.float32)
  frontier = adjacency & (hops < 0)
  for distance in range(1, FEW + 2):
    if not frontier.any():
      return hops
    hops[frontier] = distance
    if (hops >= 0).all():
      return hops
    frontier = (frontier.astype(np.float32) @ edges > 0) & (hops < 0)
  return None


def choose(
  adjacency: Bool[np.ndarray, "K K"],
  *,
  seed: int,
  purpose: str,
  step: int,
  identity: Int[np.ndarray, " K"],
) -> Int[np.ndarray, " K"]:
  """Draws a uniformly random teacher for every client, as the argmax of Gumbel noise.

  The noise is keyed by (seed, purpose, step, student, teacher), so the draw does not depend on the
  order of the clients.

  Args:
    adjacency: bool[K, K].
    seed: the replica's seed.
    purpose: what is drawn.
    step: the number of earlier draws for this purpose.
    identity: i64[K], the name each client draws under.

  Returns:
    i64[K], a client number; -1 for a client without teachers.
  """
  K = len(adjacency)
  noise = np.stack([host_rng(seed, purpose, step, i).gumbel(size=K)[identity] for i in identity])
  chosen = np.where(adjacency, noise, -np.inf).argmax(1)
  return np.where(adjacency.any(1), chosen, -1)
