"""Which uploads a server works through in a round: in which order, in which batches.

All of it is drawn on the host, a function of (seed, round, client), so that the bytes sent and the
number of calls are known without running anything.
"""

import functools
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from kdjax.algorithms.fedgkt.attendance import Attendance, attendance
from kdjax.algorithms.fedgkt.hyper import Hyper, epoch_schedule
from kdjax.core.env import Env
from kdjax.core.random import host_rng
from kdjax.types import ConfigError, Pos, Rows


class Call(NamedTuple):
  """One call of a server's phase: a batch to learn from, one to answer, or both."""

  train: bool
  answers: bool
  group: int
  epoch: int
  batch: int


class Turn(NamedTuple):
  """What a step of the servers is told of its call, `Phase.args`."""

  train: Any  # bool[]
  answers: Any  # bool[]
  last: Any  # bool[], whether it is the round's last
  told: Any  # f32[R, S], 1 for the rows that are answered
  arrived: Any  # bool[R*K], whose uploads come in before it


class Plan(NamedTuple):
  """What the servers of all replicas do in a round, in step with each other."""

  examples: Callable[[int], int]  # round -> forward passes, as `costs.client_flops` counts them
  who: Attendance
  calls: Callable[[int], tuple[Call, ...]]  # by round
  rows: Callable[[int, Call], Rows]  # by round and call
  turn: Callable[[Pos], Turn]


def plan_rounds(env: Env, hyper: Hyper) -> Plan:
  """What servers do that start as soon as enough clients have arrived.

  With each group that arrives the server learns for some epochs, from the group's uploads
  or all those it holds (`hyper.trains_on`), and answers the group, before the next; clients go by
  name. With `order='client'` one client's batches follow another's, in one order for all epochs of
  a round; 'shuffled' mixes the uploads, in a fresh order every epoch.

  Raises:
    ConfigError: for invalid values.
  """
  check(env, hyper)
  epochs, size = epoch_schedule(hyper.server_epochs), hyper.server_batch
  by_client, apart = hyper.order == "client", hyper.answers == "apart"
  who = attendance(env, hyper)
  teachers = who.held if hyper.trains_on == "all" else who.members

  def sizes_of(train, r, round, j):
    clients = (teachers if train else who.members)(r, round, j)
    return [int(env.task.private_sizes[k]) for k in clients]

  def length(train, r, round, j):
    sizes = sizes_of(train, r, round, j)
    if train and by_client:
      return sum(-(-n // size) for n in sizes)
    return -(-sum(sizes) // size)

  @functools.lru_cache(maxsize=2)
  def calls(round):
    """Replicas with fewer batches in a group wait for the others."""
    out, last = [], epochs(round) - 1
    for j in range(max(map(len, who.groups(round)))):
      learn, answer = (max(length(t, r, round, j) for r in range(env.R)) for t in (True, False))
      both = itertools.product(range(epochs(round)), range(learn))
      out += [Call(True, not apart and epoch == last, j, epoch, b) for epoch, b in both]
      out += [Call(False, True, j, 0, b) for b in range(answer) if apart]
    return tuple(out) or (Call(False, True, 0, 0, 0),)  # nobody came: nothing is answered

  @functools.lru_cache(maxsize=4 * env.R)
  def batches(r, round, train, j, epoch):
    clients = (teachers if train else who.members)(r, round, j)
    lists = _uploads(env, r, round, clients, own_order=train and by_client)
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

  def turn(pos):
    call = calls(pos.round)[pos.i]
    owner, _, mask = rows(pos.round, call)
    group = [who.members(r, pos.round, call.group) for r in range(env.R)]
    told = np.stack([np.isin(x, own) for x, own in zip(owner, group, strict=True)])
    first = call.train and call.epoch == call.batch == 0
    arrived = np.isin(np.arange(env.clients), sum(group, [])) & first
    told = (mask * told * call.answers).astype(np.float32)
    return Turn(call.train, call.answers, pos.i == pos.n - 1, told, arrived)

  def examples(round):
    """A step counts as three passes; an answer 'after' as one more, of all that is learnt from."""
    passes = {"apart": 0, "before": 0, "after": 1}[hyper.answers] + 3 * epochs(round)
    n = 0
    for r, own in enumerate(who.groups(round)):
      for j in range(len(own)):
        n += passes * sum(sizes_of(True, r, round, j)) + apart * sum(sizes_of(False, r, round, j))
    return n

  return Plan(examples, who, calls, rows, turn)


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
  """Arrays i64[n, 2] of (owner, row): one per client, each in its own order, or all in one."""
  lists = []
  for k in members:
    row = np.arange(env.task.private_sizes[k])
    if own_order:
      name = env.population.identity[k % env.K]
      row = host_rng(env.population.seeds[r], "server order", round, name).permutation(row)
    lists.append(np.stack([np.full_like(row, k), row], 1))
  return lists if own_order or not lists else [np.concatenate(lists)]
