"""The uploads that a server works through in a round: their order and batches.

All of it is drawn on the host as a function of (seed, round, client), so that the bytes sent and
the number of calls are known without a run.
"""

import functools
import itertools
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
  """`Phase.args` of the servers' step: the description of its call."""

  train: Any  # bool[]
  answers: Any  # bool[]
  last: Any  # bool[], whether it is the round's last call
  answer_mask: Any  # f32[R, S], 1 for the rows that are answered
  arrived: Any  # bool[R*K], the clients whose uploads arrive before the call


class Plan:
  """The calls of the servers of all replicas in a round; replicas run in step with each other.

  The servers start as soon as enough clients have arrived. With each group that arrives a server
  learns for some epochs, from the group's uploads or from all uploads it holds
  (`hyper.trains_on`), and answers the group before it turns to the next one. Clients are in the
  order of their identity. With `order='client'` one client's batches follow another's, in one order
  for all epochs of a round; 'shuffled' mixes the uploads, in a fresh order every epoch.
  """

  def __init__(self, env: Env, hyper: Hyper, attendance: Attendance) -> None:
    """The caches are small, as a run asks for one round after another."""
    self.env = env
    self.hyper = hyper
    self.attendance = attendance
    self.epochs = epoch_schedule(hyper.server_epochs)  # round -> E_s
    self.calls = functools.lru_cache(maxsize=2)(self._calls)
    self.batches = functools.lru_cache(maxsize=4 * env.R)(self._batches)
    self.batch_sizes = functools.lru_cache(maxsize=4 * env.R)(self._batch_sizes)

  def rows(self, round: int, call: Call) -> Rows:
    """The rows that a call works on."""
    R, S = self.env.R, self.hyper.server_batch
    owner, row = np.zeros((2, R, S), np.int32)
    mask = np.zeros((R, S), np.float32)
    for r in range(R):
      batches = self.batches(r, round, call.train, call.group, call.epoch)
      if call.batch < len(batches):
        n = len(batches[call.batch])
        owner[r, :n], row[r, :n] = batches[call.batch].T
        mask[r, :n] = 1
    return Rows(owner, row, mask)

  def turn(self, pos: Pos) -> Turn:
    """The description of a call for its step."""
    call = self.calls(pos.round)[pos.visit_call]
    owner, _, mask = self.rows(pos.round, call)
    groups = [self.attendance.members(r, pos.round, call.group) for r in range(self.env.R)]
    in_group = np.stack([np.isin(k, group) for k, group in zip(owner, groups, strict=True)])
    first = call.train and call.epoch == call.batch == 0
    arrived = np.isin(np.arange(self.env.clients), sum(groups, [])) & first
    answer_mask = (mask * in_group * call.answers).astype(np.float32)
    last = pos.visit_call == pos.visit_calls - 1
    return Turn(call.train, call.answers, last, answer_mask, arrived)

  def examples(self, round: int, calls: int) -> int:
    """Forward passes in the first calls of a round, as `costs.client_flops` counts them.

    A training step counts as three. With answers='after', a step of the last epoch counts once
    more.
    """
    n = 0
    for call in self.calls(round)[:calls]:
      after = call.answers and self.hyper.answers == "after"
      passes = 3 + after if call.train else 1
      for r in range(self.env.R):
        sizes = self.batch_sizes(r, round, call.train, call.group)
        n += passes * sum(sizes[call.batch : call.batch + 1])
    return n

  def _calls(self, round: int) -> tuple[Call, ...]:
    """A round's calls in order; replicas with fewer batches in a group wait for the others."""
    calls = []
    last_epoch = self.epochs(round) - 1
    apart = self.hyper.answers == "apart"
    for j in range(max(map(len, self.attendance.groups(round)))):
      for epoch, b in itertools.product(range(last_epoch + 1), range(self._length(round, True, j))):
        calls.append(Call(True, not apart and epoch == last_epoch, j, epoch, b))
      if apart:
        calls += [Call(False, True, j, 0, b) for b in range(self._length(round, False, j))]
    return tuple(calls) or (Call(False, True, 0, 0, 0),)  # without arrivals, an empty call

  def _batches(self, r: int, round: int, train: bool, j: int, epoch: int) -> list[np.ndarray]:
    """Group j's batches, i64[up to S, 2] of (owner, row)."""
    size = self.hyper.server_batch
    by_client = self._by_client(train)
    lists = _uploads(self.env, r, round, self._clients(r, round, train, j), own_order=by_client)
    if train and not by_client:
      seed = self.env.population.seeds[r]
      lists = [host_rng(seed, "server order", round, j, epoch).permutation(x) for x in lists]
    return [x[i : i + size] for x in lists for i in range(0, len(x), size)]

  def _length(self, round, train, j):
    """The number of batches with group j: the most of any replica."""
    return max(len(self.batch_sizes(r, round, train, j)) for r in range(self.env.R))

  def _batch_sizes(self, r: int, round: int, train: bool, j: int) -> list[int]:
    """The rows of each of group j's `_batches`, equal in every epoch, without drawing an order."""
    size = self.hyper.server_batch
    uploads = [int(self.env.task.private_sizes[k]) for k in self._clients(r, round, train, j)]
    lists = uploads if self._by_client(train) else [sum(uploads)]
    return [min(size, n - i) for n in lists for i in range(0, n, size)]

  def _clients(self, r, round, train, j):
    """The clients whose uploads are trained on with group j, or answered."""
    held = train and self.hyper.trains_on == "all"
    return (self.attendance.held if held else self.attendance.members)(r, round, j)

  def _by_client(self, train):
    """Whether one client's batches follow another's."""
    return train and self.hyper.order == "client"


def plan_rounds(env: Env, hyper: Hyper) -> Plan:
  """The Plan of an ensemble's servers.

  Raises:
    ConfigError: for invalid values.
  """
  check(env, hyper)
  return Plan(env, hyper, attendance(env, hyper))


def check(env: Env, hyper: Hyper) -> None:
  """Raises ConfigError for values that the ensemble does not allow."""
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
  """Arrays i64[n, 2] of (owner, row): one per client, in an order of its own, or one for all."""
  lists = []
  for k in members:
    row = np.arange(env.task.private_sizes[k])
    if own_order:
      name = env.population.identity[k % env.K]
      row = host_rng(env.population.seeds[r], "server order", round, name).permutation(row)
    lists.append(np.stack([np.full_like(row, k), row], 1))
  return lists if own_order or not lists else [np.concatenate(lists)]
