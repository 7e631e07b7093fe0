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
MOST_SKIPPED = 10  # consecutive logged steps that every client skipped: the run learns nothing


class _Losses(NamedTuple):
  """The losses of one step."""

  phase: str
  batches: int  # training batches of the run, this step included
  aux: Any  # on the device
  done: Any  # future of the time.monotonic() at which the device has them
  since: float  # the start of the stretch, moved forward by its compilation and pauses
  images: int  # training images of the stretch so far
  rates: dict  # the rates that are known already


class LossLog:
  """Holds one step's losses until the next step is under way, or something must see them."""

  def __init__(self, env: Env, log: Writer | Silent, clock: Clock) -> None:
    """Holds nothing; `log` is a writer.Writer, `clock` a clock.Clock."""
    self.env = env
    self.log = log
    self.clock = clock
    self._held: _Losses | None = None
    self._skipped = 0  # consecutive logged steps that every client skipped

  def send_for(
    self, visit: Visit, aux: PyTree, lr: float, batches: int, done: Future[float], images: int
  ) -> None:
    """Starts copying the losses of a step to the host, without waiting.

    Args:
      visit: schedule.Visit.
      aux: what the step returned, see program.jitted.
      lr: float.
      batches: training batches of the run, this step included.
      done: what Clock.dispatched returned for the step's dispatch.
      images: training images of the stretch so far.
    """
    for array in jax.tree.leaves(aux):
      if array.is_fully_addressable:
        array.copy_to_host_async()
    since = self.clock.began + self.clock.spent()
    rates = {"lr": float(lr), "input_bound": self.clock.input_bound()} if visit.phase.feed else {}
    self._held = _Losses(visit.phase.name, batches, aux, done, since, images, rates)

  def write(self) -> dict[str, float]:
    """Writes the held losses as means over the clients that took part.

    Returns:
      The numbers for the bar.

    Raises:
      TrainingError: for a loss that is not finite.
    """
    if self._held is None:
      return {}
    held = self._held
    self._held = None
    means = self._means(held)
    if held.rates:
      seconds = max(held.done.result() - held.since, LEAST)
      rates = held.rates | {"images_per_second": held.images / seconds}
      means = rates | means  # a step may return the learning rate that it used
    self.log.write(held.batches, held.phase, means)
    return {k: v for k, v in means.items() if k in ("loss", "images_per_second")}

  def _means(self, held):
    losses = hosts.fetch(held.aux)
    owners = [("client", c.ids) for c in self.env.cohorts]
    if isinstance(losses, dict):
      owners = [("the server of replica", range(self.env.R))]
    check_finite(losses, owners, held.batches)
    self._skipped = self._skipped + 1 if all_skipped(losses) else 0
    if self._skipped and (all_failed_at_first(losses) or self._skipped >= MOST_SKIPPED):
      raise TrainingError(f"no client's loss is finite at step {held.batches}: {AGAIN}")
    return means(losses)


def means(losses: tuple[dict, ...] | dict) -> dict[str, float]:
  """Means over the clients that took part: {name: number}.

  Args:
    losses: the aux of a step, see `program.jitted`, on the host.
  """
  found = {}
  for name, parts in _by_name(losses).items():
    values = np.concatenate([part[name] for part in parts])
    live = np.concatenate([part.get("live", np.full(len(part[name]), True)) for part in parts])
    if live.any():
      found[name] = float(values[live].mean())
  return found


def check_finite(losses: tuple[dict, ...] | dict, owners: list[tuple], batches: int) -> None:
  """Raises TrainingError for the first loss that is not finite.

  Clients whose step `core.clients.update` skipped are left out.

  Args:
    losses: as in `means`.
    owners: for each of its dicts, (kind, numbers) of the clients or servers that the values are of.
    batches: training batches of the run, this step included.
  """
  parts = _parts(losses)
  for name, having in _by_name(losses).items():
    values = np.concatenate([np.where(part.get("live", True), part[name], 0) for part in having])
    if not np.isfinite(values).all():
      pairs = zip(parts, owners, strict=True)
      named = [(kind, k) for part, (kind, ks) in pairs if name in part for k in ks]
      kind, k = named[np.flatnonzero(~np.isfinite(values))[0]]
      raise TrainingError(f"{name} of {kind} {k} is not finite at step {batches}: {AGAIN}")


def all_skipped(losses: tuple[dict, ...] | dict) -> bool:
  """Whether every participating client skipped this step because of non-finite values."""
  parts = [part for part in _parts(losses) if "live" in part]
  failed = any(np.any(part.get("failed", False)) for part in parts)
  return failed and not any(part["live"].any() for part in parts)


def all_failed_at_first(losses: tuple[dict, ...] | dict) -> bool:
  """Whether every client failed from the first step on."""
  return all((part["since"] == 0).all() for part in _parts(losses) if "since" in part)


def _parts(losses):
  return (losses,) if isinstance(losses, dict) else losses


def _by_name(losses):
  """{name: the dicts that contain it}, names in alphabetical order."""
  parts = _parts(losses)
  names = sorted({name for part in parts for name in part} - set(STATUS))
  return {name: [part for part in parts if name in part] for name in names}
