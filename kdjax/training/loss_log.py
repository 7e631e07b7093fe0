"""Losses on their way from the device to the log."""

from concurrent.futures import Future
from typing import Any, NamedTuple

import jax
import numpy as np

from kdjax.core import hosts
from kdjax.core.env import Env
from kdjax.training.clock import LEAST, Clock
from kdjax.training.schedule import Visit
from kdjax.training.writer import Silent, Writer
from kdjax.types import STATUS, PyTree, TrainingError

AGAIN = "start again in another --workdir with a lower optim.lr, or with optim.clip=1.0"
UNTAKEN = 10  # logged steps in a row that nobody could take: the run is going nowhere


class _Losses(NamedTuple):
  """The losses of one step."""

  phase: str
  batches: int  # training batches of the run, this step included
  aux: Any  # on the device
  done: Any  # future of the time.monotonic() at which the device has them
  since: float  # the time from which it worked, compilation and pauses taken off
  images: int  # taken in so far
  rates: dict  # what is known already


class LossLog:
  """Holds one step's losses, until the next step is under way or something must see them."""

  def __init__(self, env: Env, log: Writer | Silent, clock: Clock) -> None:
    """Holds nothing; `log` is a writer.Writer, `clock` a clock.Clock."""
    self.env, self.log, self.clock = env, log, clock
    self._held: _Losses | None = None
    self._untaken = 0

  def send_for(
    self, visit: Visit, aux: PyTree, lr: float, batches: int, done: Future[float], images: int
  ) -> None:
    """Has the losses of this very step copied to the host, without waiting.

    Args:
      visit: schedule.Visit.
      aux: what the step returned, see program.jitted.
      lr: float.
      batches: training batches of the run, this step included.
      done: what Clock.dispatched returned for it.
      images: taken in so far.
    """
    for x in jax.tree.leaves(aux):
      if x.is_fully_addressable:
        x.copy_to_host_async()
    since = self.clock.began + self.clock.spent()
    rates = {"lr": float(lr), "input_bound": self.clock.input_bound()} if visit.phase.feed else {}
    self._held = _Losses(visit.phase.name, batches, aux, done, since, images, rates)

  def write(self) -> dict[str, float]:
    """Writes what is held, means over the clients that took part; returns what the bar shows.

    Raises:
      TrainingError: for a loss that is not finite.
    """
    if self._held is None:
      return {}
    one, self._held = self._held, None
    means = self._means(one)
    if one.rates:
      seconds = max(one.done.result() - one.since, LEAST)
      rates = one.rates | {"images_per_second": one.images / seconds}
      means = rates | means  # a step that knows better says itself at which rate it learned
    self.log.write(one.batches, one.phase, means)
    return {k: v for k, v in means.items() if k in ("loss", "images_per_second")}

  def _means(self, one):
    losses, whose = hosts.fetch(one.aux), [("client", c.ids) for c in self.env.cohorts]
    if isinstance(losses, dict):
      whose = [("the server of replica", range(self.env.R))]
    check_finite(losses, whose, one.batches)
    self._untaken = self._untaken + 1 if untaken(losses) else 0
    if self._untaken and (never_taken(losses) or self._untaken >= UNTAKEN):
      raise TrainingError(f"no client's loss is finite at step {one.batches}: {AGAIN}")
    return means(losses)


def means(losses: tuple[dict, ...] | dict) -> dict[str, float]:
  """Means over the clients that took part: {name: number}.

  Args:
    losses: what a step returned, see `program.jitted`, on the host.
  """
  found = {}
  for name, parts in _by_name(losses).items():
    values = np.concatenate([part[name] for part in parts])
    live = np.concatenate([part.get("live", np.full(len(part[name]), True)) for part in parts])
    if live.any():
      found[name] = float(values[live].mean())
  return found


def check_finite(losses: tuple[dict, ...] | dict, whose: list[tuple], batches: int) -> None:
  """Raises TrainingError for the first loss that is not finite.

  Clients of whom `core.clients.update` notices it do not take their step and are left out.

  Args:
    losses: as in `means`.
    whose: over its dicts, (kind, numbers): to whom the values belong.
    batches: training batches of the run, this step included.
  """
  parts = _parts(losses)
  for name, found in _by_name(losses).items():
    values = np.concatenate([np.where(part.get("live", True), part[name], 0) for part in found])
    if not np.isfinite(values).all():
      named = zip(parts, whose, strict=True)
      who = [(kind, k) for part, (kind, ks) in named if name in part for k in ks]
      kind, k = who[np.flatnonzero(~np.isfinite(values))[0]]
      raise TrainingError(f"{name} of {kind} {k} is not finite at step {batches}: {AGAIN}")


def untaken(losses: tuple[dict, ...] | dict) -> bool:
  """Whether clients were to take this step and none could, for what is not finite."""
  said = [part for part in _parts(losses) if "live" in part]
  failed = any(np.any(part.get("failed", False)) for part in said)
  return failed and not any(part["live"].any() for part in said)


def never_taken(losses: tuple[dict, ...] | dict) -> bool:
  """Whether all clients could not take the very first step already."""
  return all((part["since"] == 0).all() for part in _parts(losses) if "since" in part)


def _parts(losses):
  return (losses,) if isinstance(losses, dict) else losses


def _by_name(losses):
  """{name: the dicts that have it}, in alphabetical order."""
  parts = _parts(losses)
  names = sorted({name for part in parts for name in part} - set(STATUS))
  return {name: [part for part in parts if name in part] for name in names}
