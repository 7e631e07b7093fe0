"""Rules of who holds which training example: pure functions of the labels and a seed.

Section numbers: Zhmoginov et al., Decentralized Learning with Multi-Headed Distillation, CVPR 2023,
https://arxiv.org/abs/2211.15774.
"""

import math
from collections.abc import Sequence

import numpy as np

from kdjax.core.random import host_rng
from kdjax.data.primary import owner_probabilities
from kdjax.types import ConfigError

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
      what = f"class {s} (of the source's `strata`, where these are not its labels)"
      hint = f"{what} has only {len(members)} private examples, used up at client {client}"
      raise ConfigError("counts", int(ends[-1]), hint)
    for i, part in enumerate(np.split(members, ends)[:-1]):
      parts[i].append(part)
  return [np.sort(np.concatenate(p)) for p in parts]


def owned(strata: np.ndarray, places: np.ndarray, *, K: int) -> list[np.ndarray]:
  """Gives client i the examples of stratum i: writers, hospitals, whoever has them in truth.

  Args:
    strata: i64[N] of the whole training set, below K.
    places: i64[n] of the examples to hand out.
    K: clients of the replica.

  Returns:
    K ascending arrays of places.

  Raises:
    ConfigError: for an owner who is no client.
  """
  most = int(strata.max())
  if most >= K:
    hint = f"examples have owners 0 to {most}, and there are {K} clients: one client for each"
    raise ConfigError("clients", K, hint)
  return [places[strata[places] == i] for i in range(K)]
