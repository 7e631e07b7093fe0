"""Who arrives at the servers in a round, and whose uploads they hold by then."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from kdjax.algorithms.fedgkt.hyper import Hyper
from kdjax.core.env import Env
from kdjax.core.random import host_rng


class Attendance(NamedTuple):
  """Functions of the round, on the host; clients by their global numbers, those of a list by name.

  `j` counts a replica's groups in the order in which they arrive; one that is not there is empty.
  """

  groups: Callable[[int], list[list[list[int]]]]  # round -> over replicas: groups of clients
  members: Callable[[int, int, int], list[int]]  # (r, round, j) -> group j of replica r
  held: Callable[[int, int, int], list[int]]  # (r, round, j) -> whose uploads are there with it
  heard: Callable[[int, int], int]  # (round, client) -> the last round before in which it came; -1


def attendance(env: Env, hyper: Hyper) -> Attendance:
  """Clients arrive in random order, in groups of `hyper.arrivals`; the last may be smaller.

  0 is one group of all of them.
  """
  came = [np.full(env.clients, -1)]  # by round: when each client had come last before it

  @functools.cache
  def groups(round):
    arrivals = hyper.arrivals or env.K
    return [_groups(env, r, round, arrivals, hyper.present) for r in range(env.R)]

  def members(r, round, j):
    return groups(round)[r][j] if j < len(groups(round)[r]) else []

  def before(round):
    while len(came) <= round:
      last = came[-1].copy()
      last[[k for own in groups(len(came) - 1) for group in own for k in group]] = len(came) - 1
      came.append(last)
    return came[round]

  def held(r, round, j):
    if not members(r, round, j):
      return []
    now = {k for group in groups(round)[r][: j + 1] for k in group}
    own = range(r * env.K, (r + 1) * env.K)
    return _by_name(env, [k for k in own if k in now or before(round)[k] >= 0])

  def heard(round, client):
    return int(before(round)[client])

  return Attendance(groups, members, held, heard)


def _groups(env, r, round, arrivals, present):
  """One replica's groups of global client numbers, in the order in which they arrive."""
  seed, names = env.population.seeds[r], env.population.identity
  draws = [host_rng(seed, "arrival", round, name).random(2) for name in names]
  here = [i for i in range(env.K) if draws[i][0] < present]
  here.sort(key=lambda i: draws[i][1])
  cut = [here[j : j + arrivals] for j in range(0, len(here), arrivals)]
  return [_by_name(env, [r * env.K + i for i in group]) for group in cut]


def _by_name(env, clients):
  return sorted(clients, key=lambda k: env.population.identity[k % env.K])
