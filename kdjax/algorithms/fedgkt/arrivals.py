"""Which uploads a server works through in a round: in which order, in which batches.

All of it is drawn on the host, a function of (seed, round, client), so that the bytes sent and the
number of calls are known without running anything.
"""

import dataclasses
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


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
  """What the servers of all replicas do in a round, in step with each other.

  They start as soon as enough clients have arrived. With each group that arrives a server learns
  for some epochs, from the group's uploads or all those it holds (`hyper.trains_on`), and answers
  the group, before the next; clients go by name. With `order='client'` one client's batches follow
  another's, in one order for all epochs of a round; 'shuffled' mixes the uploads, in a fresh order
  every epoch.
  """

  env: Env
  hyper: Hyper
  who: Attendance

  @functools.cached_property
  def epochs(self) -> Callable[[int], int]:
    """round -> E_s."""
    return epoch_schedule(self.hyper.server_epochs)

  @functools.cached_property
  def calls(self) -> Callable[[int], tuple[Call, ...]]:
    """round -> its calls, in order."""
    return functools.lru_cache(maxsize=2)(self._calls)

  @functools.cached_property
  def batches(self) -> Callable[[int, int, bool, int, int], list[np.ndarray]]:
    """(r, round, train, j, epoch) -> group j's batches, i64[up to S, 2] of (owner, row)."""
    return functools.lru_cache(maxsize=4 * self.env.R)(self._batches)

  @functools.cached_property
  def batch_sizes(self) -> Callable[[int, int, bool, int], list[int]]:
    """(r, round, train, j) -> rows of each of group j's batches, the same in every epoch."""
    return functools.lru_cache(maxsize=4 * self.env.R)(self._batch_sizes)

  def rows(self, round: int, call: Call) -> Rows:
    """What a call works on."""
    R, S = self.env.R, self.hyper.server_batch
    owner, row = np.zeros((2, R, S), np.int32)
    mask = np.zeros((R, S), np.float32)
    for r in range(R):
      made = self.batches(r, round, call.train, call.group, call.epoch)
      if call.batch < len(made):
        n = len(made[call.batch])
        owner[r, :n], row[r, :n] = made[call.batch].T
        mask[r, :n] = 1
    return Rows(owner, row, mask)

  def turn(self, pos: Pos) -> Turn:
    """What a call's step is told of it."""
    call = self.calls(pos.round)[pos.visit_call]
    owner, _, mask = self.rows(pos.round, call)
    group = [self.who.members(r, pos.round, call.group) for r in range(self.env.R)]
    told = np.stack([np.isin(x, own) for x, own in zip(owner, group, strict=True)])
    first = call.train and call.epoch == call.batch == 0
    arrived = np.isin(np.arange(self.env.clients), sum(group, [])) & first
    told = (mask * told * call.answers).astype(np.float32)
    return Turn(call.train, call.answers, pos.visit_call == pos.visit_calls - 1, told, arrived)

  def examples(self, round: int, calls: int) -> int:
    """Forward passes in the first calls of a round, as `costs.client_flops` counts them.

    A step counts as three; an answer 'after' as one more, of all that is learnt from.
    """
    n = 0
    for call in self.calls(round)[:calls]:
      after = call.answers and self.hyper.answers == "after"
      passes = 3 + after if call.train else 1
      for r in range(self.env.R):
        sizes = self.batch_sizes(r, round, call.train, call.group)
        n += passes * sum(sizes[call.batch : call.batch + 1])
    return n

  def _calls(self, round):
    """Replicas with fewer batches in a group wait for the others."""
    out, last, apart = [], self.epochs(round) - 1, self.hyper.answers == "apart"
    for j in range(max(map(len, self.who.groups(round)))):
      learn, answer = (
        max(len(self.batch_sizes(r, round, train, j)) for r in range(self.env.R))
        for train in (True, False)
      )
      both = itertools.product(range(last + 1), range(learn))
      out += [Call(True, not apart and epoch == last, j, epoch, b) for epoch, b in both]
      out += [Call(False, True, j, 0, b) for b in range(answer) if apart]
    return tuple(out) or (Call(False, True, 0, 0, 0),)  # nobody came: nothing is answered

  def _batches(self, r, round, train, j, epoch):
    size, in_turn = self.hyper.server_batch, self._in_turn(train)
    lists = _uploads(self.env, r, round, self._clients(r, round, train, j), own_order=in_turn)
    if train and not in_turn:
      seed = self.env.population.seeds[r]
      lists = [host_rng(seed, "server order", round, j, epoch).permutation(x) for x in lists]
    return [x[i : i + size] for x in lists for i in range(0, len(x), size)]

  def _batch_sizes(self, r, round, train, j):
    """As `_batches` cuts the uploads, without drawing their order."""
    size, clients = self.hyper.server_batch, self._clients(r, round, train, j)
    uploads = [int(self.env.task.private_sizes[k]) for k in clients]
    lists = uploads if self._in_turn(train) else [sum(uploads)]
    return [min(size, n - i) for n in lists for i in range(0, n, size)]

  def _clients(self, r, round, train, j):
    """Whose uploads are learnt from with group j, or answered."""
    held = train and self.hyper.trains_on == "all"
    return (self.who.held if held else self.who.members)(r, round, j)

  def _in_turn(self, train):
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
