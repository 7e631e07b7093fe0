"""Which uploads a server works through in a round: who arrives, in which order, in which batches.

All of it is drawn on the host, a function of (seed, round, client), so that the bytes sent and the
number of calls are known without running anything.
"""

import functools
import itertools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from kdjax.algorithms.fedgkt.hyper import Hyper, epoch_schedule
from kdjax.core.env import Env
from kdjax.core.random import host_rng
from kdjax.types import ConfigError, Rows


class Call(NamedTuple):
  """One call of a server's phase: a batch to learn from, or one to answer."""

  train: bool
  group: int
  epoch: int
  batch: int


class Plan(NamedTuple):
  """What the servers of all replicas do in a round, in step with each other."""

  epochs: Callable[[int], int]  # round -> epochs over a group's uploads
  groups: Callable[[int], list[list[list[int]]]]  # round -> over replicas: groups of clients
  calls: Callable[[int], tuple[Call, ...]]  # by round
  rows: Callable[[int, Call], Rows]  # by round and call


def plan_rounds(env: Env, hyper: Hyper) -> Plan:
  """What servers do that start as soon as enough clients have arrived.

  Clients arrive in random order. Each group of `hyper.arrivals` (the last may be smaller; 0: all of
  them) is worked through for some epochs, and answered, before the next; within a group, clients go
  by name. With `order='client'` one client's batches follow another's, in one order for all epochs
  of a round; 'shuffled' mixes a group's uploads, in a fresh order every epoch.

  Raises:
    ConfigError: for values that cannot be.
  """
  check(env, hyper)
  epochs, size = epoch_schedule(hyper.server_epochs), hyper.server_batch
  by_client = hyper.order == "client"

  @functools.cache
  def groups(round):
    arrivals = hyper.arrivals or env.K
    return [_groups(env, r, round, arrivals, hyper.present) for r in range(env.R)]

  def members(r, round, j):
    return groups(round)[r][j] if j < len(groups(round)[r]) else []

  def length(train, r, round, j):
    sizes = [int(env.task.private_sizes[k]) for k in members(r, round, j)]
    if train and by_client:
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
    who = members(r, round, j)
    lists = _uploads(env, r, round, who, own_order=train and by_client)
    if train and not by_client:
      seed = env.population.seeds[r]
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

  return Plan(epochs, groups, calls, rows)


def check(env: Env, hyper: Hyper) -> None:
  """Refuses values that no plan can have.

  Raises:
    ConfigError: with the key, its value and what would be right.
  """
  size, devices = hyper.server_batch, env.mesh.size
  if size % devices:
    hint = f"must be a positive multiple of the number of devices, {devices}"
    raise ConfigError("algo.server_batch", size, hint)
  uploads = int(np.reshape(env.task.private_sizes, (env.R, -1)).sum(1).max())
  if size > -(-uploads // devices) * devices:
    hint = f"at most {uploads:,}, all private examples of a replica"
    raise ConfigError("algo.server_batch", size, hint)
  if not 0 <= hyper.arrivals <= env.K:
    hint = f"must lie in 0..{env.K}, the clients; 0: all"
    raise ConfigError("algo.arrivals", hyper.arrivals, hint)


def _uploads(env, r, round, members, *, own_order):
  """Arrays i64[n, 2] of (owner, row): one a client, each in an order of its own, or all in one."""
  lists = []
  for k in members:
    row = np.arange(env.task.private_sizes[k])
    if own_order:
      name = env.population.identity[k % env.K]
      row = host_rng(env.population.seeds[r], "server order", round, name).permutation(row)
    lists.append(np.stack([np.full_like(row, k), row], 1))
  return lists if own_order or not lists else [np.concatenate(lists)]


def _groups(env, r, round, arrivals, present):
  """One replica's groups of global client numbers, in the order in which they arrive."""
  seed, names = env.population.seeds[r], env.population.identity
  draws = [host_rng(seed, "arrival", round, name).random(2) for name in names]
  here = [i for i in range(env.K) if draws[i][0] < present]
  here.sort(key=lambda i: draws[i][1])
  cut = [here[j : j + arrivals] for j in range(0, len(here), arrivals)]
  return [[r * env.K + i for i in sorted(g, key=lambda i: names[i])] for g in cut]
