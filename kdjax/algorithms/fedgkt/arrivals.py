"""Which uploads a server works through in a round: who arrives, in which order, in which batches.

All of it is drawn on the host, a function of (seed, round, client), so that the bytes sent and the
number of calls are known without running anything.
"""

import functools
import itertools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from kdjax.core.random import host_rng
from kdjax.types import ConfigError, Rows

ORDERS = ("client", "shuffled")


class Call(NamedTuple):
  """One call of a server's phase: a batch to learn from, or one to answer."""

  train: bool
  group: int
  epoch: int
  batch: int


class Agenda(NamedTuple):
  """What the servers of all replicas do in a round, in step with each other."""

  epochs: Callable  # round -> epochs over a group's uploads
  groups: Callable  # round -> over replicas: lists of groups of global client numbers
  calls: Callable  # round -> tuple of Call
  rows: Callable  # (round, Call) -> Rows


def plan_rounds(env, *, size, arrivals, present, order, epochs):
  """The agenda of servers that start as soon as enough clients have arrived.

  Clients arrive in random order. Each group of `arrivals` is worked through for some epochs, and
  answered, before the next; within a group, clients go by name.

  Args:
    env: Env.
    size: S, rows a batch; a multiple of the number of devices.
    arrivals: clients of a group; the last may be smaller. 0: the servers wait for everyone.
    present: probability that a client arrives in a round at all.
    order: 'client' (one client's batches after another's, in one order for all epochs of a round)
      or 'shuffled' (a group's uploads together, in a fresh order every epoch).
    epochs: passes over a group's uploads: a number, or ((until round, number), ...), the last of
      which holds to the end.

  Raises:
    ConfigError: for values that cannot be.
  """
  if size < 1 or size % env.mesh.size:
    hint = f"must be a positive multiple of the number of devices, {env.mesh.size}"
    raise ConfigError("algo.server_batch", size, hint)
  if not 0 <= arrivals <= env.K:
    raise ConfigError("algo.arrivals", arrivals, f"must lie in 0..{env.K}, the clients; 0: all")
  if not 0 < present <= 1:
    raise ConfigError("algo.present", present, "must be a probability above 0")
  if order not in ORDERS:
    raise ConfigError("algo.order", order, "must be one of " + ", ".join(ORDERS))
  epochs = epoch_schedule(epochs)

  @functools.cache
  def groups(round):
    return [_groups(env, r, round, arrivals or env.K, present) for r in range(env.R)]

  def members(r, round, j):
    return groups(round)[r][j] if j < len(groups(round)[r]) else []

  def length(train, r, round, j):
    sizes = [int(env.private_sizes[k]) for k in members(r, round, j)]
    if train and order == "client":
      return sum(-(-n // size) for n in sizes)
    return -(-sum(sizes) // size)

  @functools.lru_cache(maxsize=2)
  def calls(round):
    """Replicas with fewer batches in a group wait for the others."""
    out = []
    for j in range(max(map(len, groups(round)))):
      learn, answer = (max(length(t, r, round, j) for r in range(env.R)) for t in (True, False))
      both = itertools.product(range(epochs(round)), range(learn))
      out += [Call(True, j, epoch, b) for epoch, b in both]
      out += [Call(False, j, 0, b) for b in range(answer)]
    return tuple(out) or (Call(False, 0, 0, 0),)  # nobody came: nothing is answered

  @functools.lru_cache(maxsize=4 * env.R)
  def batches(r, round, train, j, epoch):
    """Arrays i64[<= S, 2] of (owner, row)."""
    seed, names = env.seeds[r], env.identity
    lists = []
    for k in members(r, round, j):
      row = np.arange(env.private_sizes[k])
      if train and order == "client":
        row = host_rng(seed, "server order", round, names[k % env.K]).permutation(row)
      lists.append(np.stack([np.full_like(row, k), row], 1))
    if not (train and order == "client"):
      lists = [np.concatenate(lists)] if lists else []
    if train and order == "shuffled":
      lists = [host_rng(seed, "server order", round, j, epoch).permutation(x) for x in lists]
    return [x[i : i + size] for x in lists for i in range(0, len(x), size)]

  def rows(round, call):
    owner, row = np.zeros((2, env.R, size), np.int32)
    mask = np.zeros((env.R, size), np.float32)
    for r in range(env.R):
      made = batches(r, round, call.train, call.group, call.epoch)
      if call.batch < len(made):
        n = len(made[call.batch])
        owner[r, :n], row[r, :n] = made[call.batch].T
        mask[r, :n] = 1
    return Rows(owner, row, mask)

  return Agenda(epochs, groups, calls, rows)


def _groups(env, r, round, arrivals, present):
  """One replica's groups of global client numbers, in the order in which they arrive."""
  seed, names = env.seeds[r], env.identity
  draws = [host_rng(seed, "arrival", round, name).random(2) for name in names]
  here = [i for i in range(env.K) if draws[i][0] < present]
  here.sort(key=lambda i: draws[i][1])
  cut = [here[j : j + arrivals] for j in range(0, len(here), arrivals)]
  return [[r * env.K + i for i in sorted(g, key=lambda i: names[i])] for g in cut]


def epoch_schedule(epochs):
  """round -> epochs, from a number or from ((until round, number), ...).

  Raises:
    ConfigError: for numbers below 1, or rounds that do not ascend.
  """
  parts = ((1, epochs),) if isinstance(epochs, int) else tuple(map(tuple, epochs))
  rounds, numbers = [p[0] for p in parts], [p[-1] for p in parts]
  if not parts or min(numbers) < 1 or rounds != sorted(set(rounds)):
    hint = "must be a number of at least 1, or ((until round, number), ...), rounds ascending"
    raise ConfigError("algo.server_epochs", epochs, hint)
  return lambda round: next((n for until, n in parts if round < until), numbers[-1])
