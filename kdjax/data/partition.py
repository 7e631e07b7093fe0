"""Who holds which training example: a pure function of the labels, the config and each seed.

Section numbers: Zhmoginov et al., Decentralized Learning with Multi-Headed Distillation, CVPR 2023,
https://arxiv.org/abs/2211.15774.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from kdjax.core.random import host_rng
from kdjax.data.primary import owner_probabilities, primary_labels
from kdjax.types import ConfigError, Shards

SMALLEST = 10  # examples a client has at least under `dirichlet` (FedGKT's published code)
ATTEMPTS = 1000  # draws of a whole Dirichlet partition before giving up


def public_private(
  n: int, *, share: float, reuse: bool, limit: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
  """Draws the public examples uniformly, not by class (section 3.3).

  The private ones depend on `share` alone, and more public examples contain fewer ones.

  Args:
    n: training examples.
    share: 0..1, gamma_pub, the share that is withheld from the clients.
    reuse: True: all examples are public, the private ones too (MHD+).
    limit: > 0: only so many of the public ones, those withheld first.
    seed: the replica's seed.

  Returns:
    (public, private): ascending places i64.

  Raises:
    ConfigError: share outside 0..1, or a limit above what is public.
  """
  if not 0 <= share <= 1:
    raise ConfigError("public_share", share, "between 0 and 1")
  order, count = host_rng(seed, "public").permutation(n), round(share * n)
  public = order if reuse else order[:count]
  if limit > len(public):
    raise ConfigError("public_limit", limit, f"at most the {len(public)} public examples, or 0")
  return np.sort(public[:limit] if limit else public), np.sort(order[count:])


def skewed(
  labels: np.ndarray,
  places: np.ndarray,
  *,
  primary: Sequence[Sequence[int]],
  s: float,
  classes: int,
  seed: int,
) -> list[np.ndarray]:
  """Draws the owner of every example on its own, from `owner_probabilities` (section 3.3).

  Args:
    labels: i64[N] of the whole training set.
    places: i64[n] of the examples to hand out.
    primary: K tuples of labels.
    s: skewness.
    classes: C.
    seed: the replica's seed.

  Returns:
    K ascending arrays of places.
  """
  total = np.cumsum(owner_probabilities(primary, classes=classes, s=s), axis=1)
  total /= total[:, -1:]  # the last is exactly 1, so that every u < 1 has an owner
  u = host_rng(seed, "owner").random(len(places))
  owner, label_here = np.empty(len(places), np.int64), labels[places]
  for label in range(classes):
    here = label_here == label
    owner[here] = np.searchsorted(total[label], u[here], side="right")
  return [places[owner == i] for i in range(len(primary))]


def dirichlet(
  labels: np.ndarray, places: np.ndarray, *, K: int, alpha: float, classes: int, seed: int
) -> list[np.ndarray]:
  """Splits every class by shares drawn from Dirichlet(alpha), as FedGKT's published code does.

  Classes are dealt in order; a client that already holds n / K examples gets no more of the later
  ones, and the draw is repeated until every client holds 10.

  Args:
    labels: i64[N] of the whole training set.
    places: i64[n] of the examples to hand out.
    K: clients of the replica.
    alpha: concentration, > 0; small means unequal.
    classes: C.
    seed: the replica's seed.

  Returns:
    K ascending arrays of places.

  Raises:
    ConfigError: alpha is not positive, or no draw gives every client 10 examples.
  """
  if alpha is None or not 0 < alpha < math.inf:
    raise ConfigError("alpha", alpha, "a positive number")
  by_class = [places[labels[places] == label] for label in range(classes)]
  rng = host_rng(seed, "dirichlet")
  for _ in range(ATTEMPTS):
    held = np.zeros(K, np.int64)
    parts: list[list[np.ndarray]] = [[] for _ in range(K)]
    for members in by_class:
      if len(members) == 0:
        continue
      room = np.flatnonzero(held < len(places) / K)
      # Shares of some, renormalised, are a Dirichlet draw among these alone.
      total = np.cumsum(rng.dirichlet(np.full(len(room), alpha)))
      cuts = (total[:-1] / total[-1] * len(members)).astype(int)
      for i, part in zip(room, np.split(rng.permutation(members), cuts), strict=True):
        parts[i].append(part)
        held[i] += len(part)
    if held.min() >= SMALLEST:
      return [np.sort(np.concatenate(p)) for p in parts]
  hint = f"larger, or fewer clients: {ATTEMPTS} draws (seed {seed}) never gave each of {K} clients"
  raise ConfigError("alpha", alpha, f"{hint} {SMALLEST} of {len(places)} examples")


def equal(places: np.ndarray, *, K: int, seed: int) -> list[np.ndarray]:
  """Splits places i64[n] at random, not by class, into K ascending parts of (almost) one size."""
  order = host_rng(seed, "equal").permutation(places)
  return [np.sort(part) for part in np.array_split(order, K)]


def table(
  strata: np.ndarray, places: np.ndarray, *, counts: Sequence[Sequence[int]], seed: int
) -> list[np.ndarray]:
  """Draws `counts[i][s]` examples of stratum s for client i; the rest belongs to nobody.

  Args:
    strata: i64[N] of the whole training set.
    places: i64[n] of the examples to hand out.
    counts: K rows of S whole numbers, S the number of strata.
    seed: the replica's seed.

  Returns:
    K ascending arrays of places.

  Raises:
    ConfigError: another number of columns, or a stratum with too few examples.
  """
  S = int(strata.max()) + 1
  whole = lambda row: all(type(n) is int and n >= 0 for n in row)
  if not all(isinstance(row, list | tuple) and len(row) == S and whole(row) for row in counts):
    raise ConfigError("counts", counts, f"{S} counts, 0 or more, for each client")
  wanted = np.asarray(counts, np.int64)
  rng = host_rng(seed, "table")
  parts: list[list[np.ndarray]] = [[] for _ in wanted]
  for s in range(S):
    members = rng.permutation(places[strata[places] == s])
    ends = np.cumsum(wanted[:, s])
    if ends[-1] > len(members):
      client = int(np.argmax(ends > len(members)))
      hint = f"class {s} has only {len(members)} private examples, used up at client {client}"
      raise ConfigError("counts", int(ends[-1]), hint)
    for i, part in enumerate(np.split(members, ends)[:-1]):
      parts[i].append(part)
  return [np.sort(np.concatenate(p)) for p in parts]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Split:
  """How the training set is handed out."""

  K: int  # clients of one replica
  classes: int  # C
  public_share: float  # these three: `share`, `reuse` and `limit` of `public_private`
  public_reuse: bool
  public_limit: int
  # 0, or the size of a second source, of which the public ones are then a share; all of the
  # training set is private.
  public_separate: int
  kind: str  # 'skew', 'dirichlet', 'equal' or 'table'
  skew: float  # for 'skew', s
  primary: str | Sequence[Sequence[int]]  # for 'skew', `kind` of `primary_labels`
  labels_per_client: int  # for 'skew', |l_i|
  alpha: float  # for 'dirichlet'
  counts: Sequence[Sequence[int]]  # for 'table'
  # {'share', 'clients'}: each of these clients also holds the same random share (0..1) of all
  # private examples, in addition to its own; the original owners keep theirs.
  overlay: dict[str, Any]
  batch: int  # private examples per client and step; every client must hold as many


def partition(
  labels: np.ndarray, strata: np.ndarray, split: Split, seeds: tuple[int, ...]
) -> Shards:
  """Hands out the training set once for every replica; each depends on its own seed only.

  Args:
    labels: i64[N] of the training set.
    strata: i64[N], what `split.counts` counts.
    split: Split.
    seeds: R whole numbers.

  Returns:
    Shards; `primary` is empty for kinds other than 'skew'.

  Raises:
    ConfigError: what cannot be handed out so; names the client and the seed.
  """
  if split.public_separate and split.public_reuse:
    hint = "must be False with a public_source: what is public is an example of that one"
    raise ConfigError("public_reuse", True, hint)
  private: list[np.ndarray] = []
  public: list[np.ndarray] = []
  primary: list[tuple[int, ...]] = []
  for seed in seeds:
    shared, places = _public_private(len(labels), split, seed)
    own = _primary(split, seed)
    private += _private(labels, strata, places, own, split, seed)
    public.append(shared)
    primary += own
  label_counts = np.stack([np.bincount(labels[x], minlength=split.classes) for x in private])
  return Shards(tuple(private), tuple(public), tuple(primary), label_counts)


def _public_private(n, split, seed):
  """(public, private) places of one replica, of two sources or of one of n examples."""
  public, private = public_private(
    split.public_separate or n,
    share=split.public_share,
    reuse=split.public_reuse,
    limit=split.public_limit,
    seed=seed,
  )
  if split.public_separate:
    return public, np.arange(n)
  if not len(private):
    raise ConfigError("public_share", split.public_share, "below 1: no example is private")
  return public, private


def _primary(split, seed):
  """The primary labels of one replica's clients: none for kinds other than 'skew'."""
  if split.kind != "skew":
    return ((),) * split.K
  return primary_labels(
    kind=split.primary,
    K=split.K,
    classes=split.classes,
    per_client=split.labels_per_client,
    seed=seed,
  )


def _private(labels, strata, places, primary, split, seed):
  """The K private parts of one replica, those of the overlay included."""
  also = _overlay(places, split.K, seed, **split.overlay)
  parts = _hand_out(labels, strata, places, primary, split, seed)
  for i in split.overlay["clients"]:
    parts[i] = np.union1d(parts[i], also)
  _check_sizes(parts, split.batch, split.kind, seed)
  return parts


def _overlay(places, K, seed, *, share, clients):
  """The examples of the overlay, drawn uniformly, not by class."""
  if not 0 <= share < 1 or bool(share) != bool(clients):
    raise ConfigError(
      "overlay.share", share, "from 0 to below 1, above 0 exactly with overlay.clients"
    )
  if not all(type(i) is int and i in range(K) for i in clients) or len(set(clients)) < len(clients):
    raise ConfigError("overlay.clients", clients, f"client numbers in 0..{K - 1}, each once")
  return host_rng(seed, "overlay").permutation(places)[: round(share * len(places))]


def _hand_out(labels, strata, places, primary, split, seed):
  """The K private parts of one replica without the overlay."""
  K, classes = split.K, split.classes
  if split.kind == "skew":
    if split.skew is None or not split.skew >= 0:
      raise ConfigError("skew", split.skew, "0 (all clients alike) or more, up to inf")
    return skewed(labels, places, primary=primary, s=split.skew, classes=classes, seed=seed)
  if split.kind == "dirichlet":
    return dirichlet(labels, places, K=K, alpha=split.alpha, classes=classes, seed=seed)
  if split.kind == "equal":
    return equal(places, K=K, seed=seed)
  if split.kind == "table":
    if split.counts is None or len(split.counts) != K:
      raise ConfigError("counts", split.counts, f"one row of counts for each of {K} clients")
    return table(strata, places, counts=split.counts, seed=seed)
  raise ConfigError("partition", split.kind, "'skew', 'dirichlet', 'equal' or 'table'")


def _check_sizes(parts, batch, kind, seed):
  for i, part in enumerate(parts):
    if len(part) == 0:
      hint = f"client {i} gets no example with seed {seed}; ask for fewer clients or less skew"
      raise ConfigError("partition", kind, hint)
    if len(part) < batch:
      hint = f"at most {len(part)}: that is all client {i} holds with seed {seed}"
      raise ConfigError("batch", batch, hint)
