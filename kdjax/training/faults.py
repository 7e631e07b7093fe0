"""Clients whose numbers are not finite, as the host learns of them (core/health.py)."""

import sys
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.core import health, hosts
from kdjax.core.env import Env
from kdjax.training import schedule
from kdjax.training.writer import Silent, Writer
from kdjax.types import Cohort, PyTree, TrainingError, TrainState


class Fault(NamedTuple):
  """A client whose numbers were not finite."""

  client: int  # its global number
  step: int  # training batches of the run, the first such one included
  steps: int  # how many it did not take since
  refused: int  # its teachers' predictions for an example that it did not take in


def faults(
  env: Env, visits: tuple[schedule.Visit, ...], state: TrainState
) -> tuple[list[Fault], dict[int, int]]:
  """(the faults of a state, the first one first; {client: predictions refused, where any were})."""
  found, refused = [], {}
  whole = hosts.fetch(tuple(c.health for c in state.clients))
  for cohort, h in zip(env.cohorts, whole, strict=True):
    for k, since, steps, lost in zip(cohort.ids, *h, strict=True):
      if since >= 0:
        found.append(Fault(k, batches_at(visits, int(since)), int(steps), int(lost)))
      if lost:
        refused[k] = int(lost)
  return sorted(found, key=lambda one: (one.step, one.client)), refused


def batches_at(visits: tuple[schedule.Visit, ...], call: int) -> int:
  """Training batches of the run after a call of a phase, counted from 0."""
  visit = next(v for v in visits if call < v.start + v.n)
  return visit.after(call - visit.start + 1)


class Watch:
  """Names every client once, as soon as the host can know; each process its own clients'."""

  def __init__(self, env: Env, visits: tuple[schedule.Visit, ...]) -> None:
    """Knows of none."""
    self.env, self.visits = env, visits
    self._known: set[int] = set()
    self._waiting: PyTree = ()

  def knows(self, state: TrainState) -> None:
    """Takes the faults of a restored state for known."""
    self._known = {one.client for one in faults(self.env, self.visits, state)[0]}

  def note(self, aux: PyTree) -> list[Fault]:
    """Faults that are new in the dispatch before; takes `aux` of the newest for the next call."""
    before, self._waiting = self._waiting, aux if isinstance(aux, tuple) else ()
    for part in self._waiting:
      if "since" in part and part["since"].is_fully_addressable:
        part["since"].copy_to_host_async()
    new = []
    for cohort, part in zip(self.env.cohorts, before, strict=False):
      for k, since in _own(cohort, part):
        if since >= 0 and k not in self._known:
          self._known.add(k)
          new.append(Fault(k, batches_at(self.visits, since), 1, 0))
    return new

  @property
  def ends(self) -> bool:
    """Whether the run must end for what is known."""
    return _end(self.env, len(self._known))


def _end(env, known):
  """Whether so many clients that were not finite end a run: one, or all, by `faults.client`."""
  least = {"reset": env.clients + 1, "freeze": len(env.here), "stop": 1}
  return known >= least[env.training.fault]


def report(fault: Fault, policy: str, log: Writer | Silent, batches: int) -> None:
  """Says of a client, once, that its numbers were not finite; `batches` of the run by now."""
  words = {"reset": "goes on from", "freeze": "is silent from now on, at", "stop": "is at"}
  print(
    f"kdjax: client {fault.client} was not finite at step {fault.step}: "
    f"it did not take it and {words[policy]} its last good state (faults.client={policy})",
    file=sys.stderr,
  )
  log.write(batches, "fault", {"client": fault.client, "since": fault.step})


def check(env: Env, visits: tuple[schedule.Visit, ...], state: TrainState) -> None:
  """Raises TrainingError where clients whose numbers were not finite end the run."""
  found, _ = faults(env, visits, state)
  if _end(env, len(found)):
    first = found[0]
    raise TrainingError(
      f"client {first.client} was not finite at step {first.step}, the first of {len(found)}; "
      "all are saved as they were before: the same command goes on with "
      "--config.faults.client=reset, or start again with a lower optim.lr, or optim.clip=1.0"
    )


def _own(cohort: Cohort, part: dict) -> Iterator[tuple[int, int]]:
  """(client, since) of the clients that this process holds, each by one process."""
  if "since" not in part:
    return
  for shard in part["since"].addressable_shards:
    if shard.replica_id == 0:
      ids = np.asarray(cohort.ids)[shard.index[0]]
      yield from zip(ids.tolist(), np.asarray(shard.data).tolist(), strict=True)


@jax.jit
def _whole(state):
  parts = zip(state.clients, state.local, strict=True)
  # A server's plateau may begin at infinity.
  server = jnp.stack([~jnp.isnan(x).any() for x in jax.tree.leaves(state.server)] or [True])
  return tuple(health.finite_clients((client, own)) for client, own in parts), server.all()


def check_whole(env: Env, state: TrainState, batches: int) -> None:
  """Raises TrainingError where a state that is to be saved holds a number that is not finite."""
  clients, server = hosts.fetch(_whole(state))
  bad = [k for c, fine in zip(env.cohorts, clients, strict=True) for k in np.asarray(c.ids)[~fine]]
  if bad or not server:
    who = f"client {min(bad)}" if bad else "the server"
    raise TrainingError(
      f"a number in the state of {who} is not finite at step {batches}: nothing was saved of it"
    )
