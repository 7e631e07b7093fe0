"""The clients that arrive at the servers in a round, and the uploads that the servers hold then."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from kdjax.algorithms.fedgkt.hyper import Hyper
from kdjax.core.env import Env
from kdjax.core.random import host_rng


class Attendance(NamedTuple):
  """Functions of the round, on the host. Clients are global numbers; lists are sorted by identity.

  `j` counts a replica's groups in the order of arrival; a group that does not exist is empty.
  """

  groups: Callable[[int], list[list[list[int]]]]  # round -> over replicas: groups of clients
  members: Callable[[int, int, int], list[int]]  # (r, round, j) -> group j of replica r
  # (r, round, j) -> the clients whose uploads the server holds when group j has arrived.
  held: Callable[[int, int, int], list[int]]
  # (round, client) -> the last earlier round in which it arrived; -1: none.
  last_arrival: Callable[[int, int], int]


def attendance(env: Env, hyper: Hyper) -> Attendance:
  """Clients arrive in random order, in groups of `hyper.arrivals`; the last may be smaller.

  With 0 all clients are one group.
  """
  last_arrivals = [np.full(env.clients, -1)]  # by round: each client's last earlier arrival

  @functools.cache
  def groups(round):
    arrivals = hyper.arrivals or env.K
    return [_groups(env, r, round, arrivals, hyper.present) for r in range(env.R)]

  def members(r, round, j):
    return groups(round)[r][j] if j < len(groups(round)[r]) else []

  def before(round):
    while len(last_arrivals) <= round:
      previous = len(last_arrivals) - 1
      last = last_arrivals[-1].copy()
      last[[k for own in groups(previous) for group in own for k in group]] = previous
      last_arrivals.append(last)
    return last_arrivals[round]

  def held(r, round, j):
    if not members(r, round, j):
      return []
    arrived = {k for group in groups(round)[r][: j + 1] for k in group}
    own = range(r * env.K, (r + 1) * env.K)
    return _by_identity(env, [k for k in own if k in arrived or before(round)[k] >= 0])

  def last_arrival(round, client):
    return int(before(round)[client])

  return Attendance(groups, members, held, last_arrival)


def _groups(env, r, round, arrivals, present):
  """One replica's groups of global client numbers, in the order of arrival."""
  seed, names = env.population.seeds[r], env.population.identity
  draws = [host_rng(seed, "arrival", round, name).random(2) for name in names]
  arrived = [i for i in range(env.K) if draws[i][0] < present]
  arrived.sort(key=lambda i: draws[i][1])
  groups = [arrived[j : j + arrivals] for j in range(0, len(arrived), arrivals)]
  return [_by_identity(env, [r * env.K + i for i in group]) for group in groups]


def _by_identity(env, clients):
  """Clients sorted by identity, so that an order does not depend on their numbers."""
  return sorted(clients, key=lambda k: env.population.identity[k % env.K])
