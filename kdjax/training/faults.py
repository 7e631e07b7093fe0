"""Clients and servers whose numbers are not finite, as the host learns of them (core/health.py)."""

import sys
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.core import agreement, health, hosts
from kdjax.core.env import Env
from kdjax.training import schedule
from kdjax.training.writer import Silent, Writer
from kdjax.types import PyTree, TrainingError, TrainState


class Fault(NamedTuple):
  """A client, or a replica's server, whose numbers were not finite."""

  kind: str  # 'client' or 'server'
  number: int  # the client's global one, or the server's replica
  step: int  # training batches of the run, the first such one included
  steps: int  # how many it did not take since

  def __str__(self) -> str:
    """Whose it is."""
    return f"client {self.number}" if self.kind == "client" else f"replica {self.number}'s server"


def faults(
  env: Env, visits: tuple[schedule.Visit, ...], state: TrainState
) -> tuple[list[Fault], dict[int, int]]:
  """(the faults of a state, the first one first; {client: predictions refused, where any were})."""
  clients, servers = hosts.fetch(
    (tuple(c.health for c in state.clients), health.servers(state.server))
  )
  held = zip([c.ids for c in env.cohorts], clients, strict=True)
  whose = [("client", ids, h) for ids, h in held]
  whose += [("server", tuple(range(env.R)), h) for h in servers]
  found, refused = [], {}
  for kind, numbers, h in whose:
    for k, since, steps, lost in zip(numbers, *h, strict=True):
      if since >= 0:
        found.append(Fault(kind, k, batches_at(visits, int(since)), int(steps)))
      if lost:
        refused[k] = int(lost)
  return sorted(found, key=lambda one: (one.step, one.kind, one.number)), refused


def batches_at(visits: tuple[schedule.Visit, ...], call: int) -> int:
  """Training batches of the run after a call of a phase, counted from 0."""
  visit = next(v for v in visits if call < v.start + v.calls)
  return visit.after(call - visit.start + 1)


class FaultMonitor:
  """Names everyone once, as soon as the host can know; each process its own clients."""

  def __init__(self, env: Env, visits: tuple[schedule.Visit, ...]) -> None:
    """Knows of none."""
    self.env, self.visits = env, visits
    self._known: set[tuple[str, int]] = set()
    self._own: set[tuple[str, int]] | None = None  # this process's clients, once a step has run
    self._waiting: PyTree = ()

  def knows(self, state: TrainState) -> None:
    """Takes the faults of a restored state for known."""
    self._known = {(one.kind, one.number) for one in faults(self.env, self.visits, state)[0]}

  def note(self, aux: PyTree) -> list[Fault]:
    """Faults that are new in the dispatch before; takes `aux` of the newest for the next call."""
    aux = aux if isinstance(aux, dict | tuple) else ()  # a phase without a batch may have none
    before, self._waiting = self._waiting, aux
    for part in (aux,) if isinstance(aux, dict) else aux:
      if "since" in part and part["since"].is_fully_addressable:
        part["since"].copy_to_host_async()
    said = dict(_said(self.env, before))
    if not isinstance(before, dict) and any("since" in part for part in before):
      self._own = set(said)
    new = [who for who, since in said.items() if since >= 0 and who not in self._known]
    self._known.update(new)
    return [Fault(*who, batches_at(self.visits, said[who]), 1) for who in new]

  @property
  def stops(self) -> bool:
    """Whether the run must end for one that this process knows of."""
    return self.env.training.fault == "stop" and bool(self._known)

  @property
  def rests(self) -> bool:
    """Whether all clients of this process have fallen silent."""
    return self._own is not None and self._own <= self._known


def report(fault: Fault, policy: str, log: Writer | Silent, batches: int) -> None:
  """Says of a client or server, once, that it was not finite; `batches` of the run by now."""
  words = {"reset": "goes on from", "freeze": "is silent from now on, at", "stop": "is at"}
  if fault.kind == "server" and policy == "freeze":
    policy = "reset"  # without it nobody learns
  line = (
    f"{fault} was not finite at step {fault.step}: it did not take it and {words[policy]} its last "
    f"good state (faults.client={policy})"
  )
  if fault.kind == "server":
    agreement.say(line)  # all processes know
  else:
    print(f"kdjax: {line}", file=sys.stderr)
  log.write(batches, "fault", {fault.kind: fault.number, "since": fault.step})


def check(env: Env, visits: tuple[schedule.Visit, ...], state: TrainState) -> None:
  """Raises TrainingError where those whose numbers were not finite end the run."""
  found, _ = faults(env, visits, state)
  silent = sum(one.kind == "client" for one in found)
  ends = {"stop": bool(found), "freeze": silent == len(env.local_ids), "reset": False}
  if ends[env.training.fault]:
    first = found[0]
    raise TrainingError(
      f"{first} was not finite at step {first.step}, the first of {len(found)}; "
      "all are saved as they were before: the same command goes on with "
      "--config.faults.client=reset, or start again with a lower optim.lr, or optim.clip=1.0"
    )


def _said(env: Env, aux: PyTree) -> Iterator[tuple[tuple[str, int], int]]:
  """((kind, number), since) of servers, or of the clients that this process holds."""
  if isinstance(aux, dict):
    if "since" in aux:
      since = np.asarray(aux["since"].addressable_data(0))
      yield from ((("server", r), int(since[r])) for r in range(env.R))
    return
  for cohort, part in zip(env.cohorts, aux, strict=False):
    for shard in part["since"].addressable_shards if "since" in part else ():
      if shard.replica_id == 0:
        ids = np.asarray(cohort.ids)[shard.index[0]].tolist()
        since = np.asarray(shard.data).tolist()
        yield from ((("client", k), x) for k, x in zip(ids, since, strict=True))


@jax.jit
def _whole(state):
  clients = tuple(health.finite_clients(c) for c in state.clients)
  held = zip(state.clients, state.local, strict=True)
  local = tuple(health.finite_clients((c.health, own)) for c, own in held)  # `own` may be empty
  # A server's plateau may begin at infinity.
  server = jnp.stack([~jnp.isnan(x).any() for x in jax.tree.leaves(state.server)] or [True])
  return clients, local, server.all()


def check_whole(env: Env, state: TrainState, batches: int) -> None:
  """Raises TrainingError where a state that is to be saved holds a number that is not finite."""
  clients, local, server = hosts.fetch(_whole(state))
  first = lambda fine: min(np.concatenate([np.asarray(c.ids) for c in env.cohorts])[~fine])
  weights, own = np.concatenate(clients), np.concatenate(local)
  if not weights.all():
    who = f"the state of client {first(weights)}"
  elif not own.all():
    hint = "a method adds to it only where aux['live'] says that the step was taken"
    who = f"what is kept for client {first(own)} in `TrainState.local` ({hint})"
  elif not server:
    who = "the state of the server"
  else:
    return
  raise TrainingError(f"a number in {who} is not finite at step {batches}: nothing was saved of it")
