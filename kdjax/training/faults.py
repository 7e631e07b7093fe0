"""Reports clients and servers with values that are not finite (found by core/health.py)."""

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
  """A client, or a replica's server, that had a value that was not finite."""

  kind: str  # 'client' or 'server'
  number: int  # the client's global number, or the server's replica
  step: int  # training batches of the run, the first faulty one included
  steps: int  # steps that the client or server has skipped

  def __str__(self) -> str:
    """Names the client or server."""
    return f"client {self.number}" if self.kind == "client" else f"replica {self.number}'s server"


def faults(
  env: Env, visits: tuple[schedule.Visit, ...], state: TrainState
) -> tuple[list[Fault], dict[int, int]]:
  """Reads a state's faults.

  Returns:
    (faults in order of time, {client: refused predictions}, with the clients that refused any).
  """
  clients, servers = hosts.fetch(
    (tuple(c.health for c in state.clients), health.servers(state.server))
  )
  by_cohort = zip([c.ids for c in env.cohorts], clients, strict=True)
  healths = [("client", ids, h) for ids, h in by_cohort]
  healths += [("server", tuple(range(env.R)), h) for h in servers]
  found = []
  refused = {}
  for kind, numbers, h in healths:
    for number, since, steps, predictions in zip(numbers, *h, strict=True):
      if since >= 0:
        found.append(Fault(kind, number, batches_at(visits, int(since)), int(steps)))
      if predictions:
        refused[number] = int(predictions)
  return sorted(found, key=lambda fault: (fault.step, fault.kind, fault.number)), refused


def batches_at(visits: tuple[schedule.Visit, ...], call: int) -> int:
  """Training batches of the run after a call; calls of all phases are counted from 0."""
  visit = next(v for v in visits if call < v.start + v.calls)
  return visit.after(call - visit.start + 1)


class FaultMonitor:
  """Reports each faulty client or server once, as soon as the host can know.

  A process reports its own clients.
  """

  def __init__(self, env: Env, visits: tuple[schedule.Visit, ...]) -> None:
    """Knows of no fault."""
    self.env = env
    self.visits = visits
    self._known: set[tuple[str, int]] = set()  # (kind, number)
    self._own: set[tuple[str, int]] | None = None  # this process's clients, once a step has run
    self._waiting: PyTree = ()  # the aux of the newest dispatch

  def knows(self, state: TrainState) -> None:
    """Registers the faults of a restored state as reported."""
    found, _ = faults(self.env, self.visits, state)
    self._known = {(fault.kind, fault.number) for fault in found}

  def note(self, aux: PyTree) -> list[Fault]:
    """Returns the new faults of the dispatch before, and keeps `aux` of the newest one.

    The values of the newest dispatch are read at the next call, so that the host does not wait; (),
    where there is no newer one, reads them at once.
    """
    aux = aux if isinstance(aux, dict | tuple) else ()  # a phase without a batch may have none
    before = self._waiting
    self._waiting = aux
    for part in (aux,) if isinstance(aux, dict) else aux:
      if "since" in part and part["since"].is_fully_addressable:
        part["since"].copy_to_host_async()
    since = dict(_since(self.env, before))
    if not isinstance(before, dict) and any("since" in part for part in before):
      self._own = set(since)
    new = [who for who, call in since.items() if call >= 0 and who not in self._known]
    self._known.update(new)
    return [Fault(*who, batches_at(self.visits, since[who]), 1) for who in new]

  @property
  def stops(self) -> bool:
    """Whether the run must end because of a fault that this process knows of."""
    return self.env.training.fault == "stop" and bool(self._known)

  @property
  def all_frozen(self) -> bool:
    """Whether all clients of this process are frozen; asked where `faults.client` is 'freeze'."""
    return self._own is not None and self._own <= self._known


def report(fault: Fault, policy: str, log: Writer | Silent, batches: int) -> None:
  """Reports a new fault on the terminal and in the log.

  Args:
    fault: Fault.
    policy: `config.faults.client`.
    log: the run's log.
    batches: training batches of the run after the dispatch with the fault.
  """
  outcomes = {
    "reset": "continues from its last good state",
    "freeze": "is frozen at its last good state from now on",
    "stop": "the run ends",
  }
  if fault.kind == "server" and policy == "freeze":
    policy = "reset"  # without the server no client learns
  line = (
    f"{fault} had a loss, gradient or statistic that was not finite at step {fault.step}: it "
    f"skipped that step and {outcomes[policy]} (faults.client={policy})"
  )
  if fault.kind == "server":
    agreement.say(line)  # all processes know
  else:
    print(f"kdjax: {line}", file=sys.stderr)
  log.write(batches, "fault", {fault.kind: fault.number, "since": fault.step})


def check(env: Env, visits: tuple[schedule.Visit, ...], state: TrainState) -> None:
  """Raises TrainingError if a state's faults end the run under `config.faults.client`."""
  found, _ = faults(env, visits, state)
  frozen = sum(fault.kind == "client" for fault in found)
  ends = {"stop": bool(found), "freeze": frozen == len(env.local_ids), "reset": False}
  if ends[env.training.fault]:
    first = found[0]
    raise TrainingError(
      f"{first} had a loss, gradient or statistic that was not finite at step {first.step}, the "
      f"first of {len(found)}. The step was skipped and the state is saved. To continue, add "
      "--config.faults.client=reset; or start again with a lower optim.lr or optim.clip=1.0"
    )


def _since(env: Env, aux: PyTree) -> Iterator[tuple[tuple[str, int], int]]:
  """((kind, number), first faulty call or -1) of the servers, or of this process's clients."""
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
def _finite(state):
  """(bool[K_g] over cohorts of the clients, the same of `local`, bool[] of the servers)."""
  clients = tuple(health.finite_clients(c) for c in state.clients)
  pairs = zip(state.clients, state.local, strict=True)
  local = tuple(health.finite_clients((c.health, own)) for c, own in pairs)  # `own` may be empty
  # Infinity is a value there: where a plateau begins, and where FedMD found no consensus.
  server = jnp.stack([~jnp.isnan(x).any() for x in jax.tree.leaves(state.server)] or [True])
  return clients, local, server.all()


def check_whole(env: Env, state: TrainState, batches: int) -> None:
  """Raises TrainingError if a state to be saved holds a value that is not finite (server: NaN)."""
  clients, local, server = hosts.fetch(_finite(state))
  ids = np.concatenate([np.asarray(c.ids) for c in env.cohorts])
  finite_weights = np.concatenate(clients)
  finite_local = np.concatenate(local)
  if not finite_weights.all():
    where = f"the state of client {min(ids[~finite_weights])}"
  elif not finite_local.all():
    hint = "a method adds to it only where aux['live'] says that the step was taken"
    where = f"the entry of client {min(ids[~finite_local])} in `TrainState.local` ({hint})"
  elif not server:
    where = "the state of the server"
  else:
    return
  raise TrainingError(
    f"a value in {where} is not finite at step {batches}: the state was not saved"
  )
