"""Primary labels: which classes a client specialises in, and how strongly.

Section numbers: Zhmoginov et al., Decentralized Learning with Multi-Headed Distillation, CVPR 2023,
https://arxiv.org/abs/2211.15774.
"""

import math
from collections.abc import Sequence

import numpy as np

from kdjax.core.random import host_rng
from kdjax.types import ConfigError


def primary_labels(
  *, kind: str | Sequence[Sequence[int]], K: int, classes: int, per_client: int, seed: int
) -> tuple[tuple[int, ...], ...]:
  """The primary labels of every client, ascending (section 3.3).

  Args:
    kind: 'even': every label has equally many primary clients; 'random': every client draws
      `per_client` labels by itself; or the labels themselves, a tuple of K tuples.
    K: clients of the replica.
    classes: C.
    per_client: primary labels of each client; ignored for explicit ones.
    seed: the replica's seed.

  Raises:
    ConfigError: more labels than classes, a number that does not divide, bad explicit labels.
  """
  if isinstance(kind, list | tuple):
    return _explicit(kind, K, classes)
  if kind not in ("even", "random"):
    raise ConfigError("primary", kind, "'even', 'random' or 'explicit'")
  if not isinstance(per_client, int) or not 0 <= per_client <= classes:
    raise ConfigError("labels", per_client, f"0 to {classes}, the number of classes")
  rng = host_rng(seed, "primary")
  if kind == "random":
    hands = [rng.choice(classes, per_client, replace=False) for _ in range(K)]
  else:
    hands = _even(rng, K, classes, per_client)
  return tuple(tuple(sorted(int(label) for label in hand)) for hand in hands)


def _explicit(primary, K, classes):
  if primary is None or len(primary) != K:
    raise ConfigError("primary_labels", primary, f"one tuple of labels for each of {K} clients")
  for labels in primary:
    known = isinstance(labels, list | tuple) and all(
      type(label) is int and 0 <= label < classes for label in labels
    )
    if not known or len(set(labels)) != len(labels):
      raise ConfigError(
        "primary_labels", primary, f"different labels, 0 to {classes - 1}, in each tuple"
      )
  if not any(primary):
    hint = "some client needs a label; without any, labels = 0 with primary = 'random'"
    raise ConfigError("primary_labels", primary, hint)
  return tuple(tuple(sorted(int(label) for label in labels)) for labels in primary)


def _even(rng, K, classes, per_client):
  """Deals m permutations of the labels in turn; a label dealt twice is swapped away.

  Client i with label x twice holds fewer than `per_client` different labels. Some client j has no
  x, for x has only m <= K copies. If j's labels all differ, one is new to i; if not, j gives one
  that it has twice. Either way the swap leaves fewer duplicates, so the loop ends.
  """
  if K * per_client % classes:
    steps = classes // math.gcd(K, classes)
    hint = f"a multiple of {steps}, so that {K} clients share {classes} labels evenly"
    raise ConfigError("labels", per_client, f"{hint}; or primary='random', or partition='equal'")
  copies = K * per_client // classes
  deck = [rng.permutation(classes) for _ in range(copies)]
  hands = np.reshape(deck, (per_client, K)).T.astype(int)
  hands = hands[rng.permutation(K)]  # or neighbours would never share a label when C < K
  held = np.stack([np.bincount(hand, minlength=classes) for hand in hands])  # [K, C]
  for i in range(K):
    while np.any(held[i] > 1):
      a = np.flatnonzero(held[i, hands[i]] > 1)[0]
      j = rng.choice(np.flatnonzero(held[:, hands[i, a]] == 0))
      b = rng.choice(np.flatnonzero((held[i, hands[j]] == 0) | (held[j, hands[j]] > 1)))
      x, y = hands[i, a], hands[j, b]
      hands[i, a], hands[j, b] = y, x
      held[i, x], held[j, x] = held[i, x] - 1, 1
      held[i, y], held[j, y] = held[i, y] + 1, held[j, y] - 1
  return hands


def owner_probabilities(primary: Sequence[Sequence[int]], *, classes: int, s: float) -> np.ndarray:
  """P(i | l) = (1 + s [l in l_i]) / sum_j (1 + s [l in l_j]) of section 3.3.

  Args:
    primary: K tuples of labels.
    classes: C.
    s: skewness, 0 or more; inf is the limit: only primary clients, where a label has any.

  Returns:
    f64[C, K], rows sum to 1; a label without primary clients is uniform for every s.
  """
  member = np.zeros((classes, len(primary)))
  for i, labels in enumerate(primary):
    member[list(labels), i] = 1
  if math.isinf(s):
    weight = np.where(member.any(axis=1, keepdims=True), member, 1.0)
  else:
    weight = 1 + s * member
  return weight / weight.sum(axis=1, keepdims=True)
