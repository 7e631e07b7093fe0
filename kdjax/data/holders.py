"""Hands out the training set to the clients of every replica, by the rules of partition.py."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from kdjax.core.random import host_rng
from kdjax.data.partition import dirichlet, equal, owned, public_private, skewed, table
from kdjax.data.primary import primary_labels
from kdjax.types import ConfigError, Shards


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
  kind: str  # 'skew', 'dirichlet', 'equal', 'table' or 'owner'
  skew: float  # for 'skew', s
  primary: str | Sequence[Sequence[int]]  # for 'skew', `kind` of `primary_labels`
  labels_per_client: int  # for 'skew', |l_i|
  alpha: float  # for 'dirichlet'
  counts: Sequence[Sequence[int]]  # for 'table'
  # For 'owner', see ExampleSet; where it does not say, strata other than the labels are owners.
  owned: bool
  # {'share', 'clients'}: each of these clients also holds the same random share (0..1) of all
  # private examples, in addition to its own; the original owners keep theirs.
  overlay: dict[str, Any]


def hand_out(
  labels: np.ndarray, strata: np.ndarray, split: Split, seeds: tuple[int, ...]
) -> Shards:
  """Hands out the training set once for every replica; each depends on its own seed only.

  Args:
    labels: i64[N] of the training set.
    strata: i64[N], what `split.counts` counts, or who owns each example, for 'owner'.
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
  _check_sizes(parts, split.kind, seed)
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
  if split.kind == "owner":
    if not split.owned and np.array_equal(labels, strata):
      hint = "the source does not say whose an example is: kdjax.arrays(owner=...) does"
      raise ConfigError("partition", "owner", hint)
    return owned(strata, places, K=K)
  raise ConfigError("partition", split.kind, "'skew', 'dirichlet', 'equal', 'table' or 'owner'")


def _check_sizes(parts, kind, seed):
  for i, part in enumerate(parts):
    if len(part) == 0:
      hint = f"client {i} gets no example with seed {seed}; ask for fewer clients"
      hint += {"owner": " or a smaller public_share", "skew": " or less skew"}.get(kind, "")
      raise ConfigError("partition", kind, hint)
