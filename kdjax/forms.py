"""The forms of a step, and the measured time of each: `measured.csv`, and the user's own table.

A form changes no result beyond rounding, so measurements decide which one a run takes. A row of a
table holds the time of one training step of K clients in one form, as `python -m benchmarks maps`
and `kdjax measure` time it. A run takes the form that was fastest for the nearest network and K.
"""

import csv
import functools
import importlib.resources
import io
import math
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from kdjax.core import files, machine
from kdjax.core.mapping import MAPS
from kdjax.models.conv import LOWERINGS
from kdjax.types import ConfigError


class Form(NamedTuple):
  """How the clients of a run are laid out."""

  local_map: str  # the local map, one of `mapping.MAPS`
  conv: str  # one of `conv.LOWERINGS`
  spread: bool  # whether clients are spread over host devices, at most one per core


class Load(NamedTuple):
  """The work of a device."""

  work: float  # multiply-adds of the heaviest client's forward pass on its batch
  convolves: bool  # whether the network has convolutions
  clients: int  # clients of all replicas; on an accelerator, the device's share of them


class Measurement(NamedTuple):
  """The time of a step."""

  backend: str  # cpu, gpu, tpu
  device: str  # see `layout.device`
  load: Load
  form: Form
  milliseconds: float  # one step of these clients


# The columns of a table; `measured.csv` has those of network and commit too.
COLUMNS = (
  *("backend", "device", "work", "convolves", "clients"),
  *("map", "conv", "spread", "milliseconds"),
)
TIE = 0.1  # forms whose times differ by less are equal, and the first in SOONER is taken
SOONER = ("scan", "vmap", "unroll")  # a loop compiles soonest and needs least memory for any K
ONE_LOOP, ONE_PROGRAM = Form("scan", "direct", False), Form("vmap", "direct", False)
# Multiply-adds of one client's forward pass on a batch. Below this a GPU takes longer to launch a
# loop's kernels, client by client, than to compute them.
LAUNCH_BOUND = 2e10


@functools.cache
def measured() -> tuple[Measurement, ...]:
  """All rows of `measured.csv`, and those recorded by `kdjax measure --record`."""
  shipped = importlib.resources.files("kdjax").joinpath("measured.csv").read_text()
  return (*rows(shipped), *recorded(own_table()))


def rows(text: str) -> tuple[Measurement, ...]:
  """The measurements in the text of a table."""
  return tuple(
    Measurement(
      row["backend"],
      row["device"],
      Load(float(row["work"]), row["convolves"] == "True", int(row["clients"])),
      Form(row["map"], row["conv"], row["spread"] == "True"),
      float(row["milliseconds"]),
    )
    for row in csv.DictReader(text.splitlines())
  )


def own_table() -> Path:
  """The file of the user's own measurements."""
  return machine.cache() / "measured.csv"


def recorded(path: Path) -> tuple[Measurement, ...]:
  """The measurements in a file; none if there is no file."""
  return rows(path.read_text()) if path.exists() else ()


def keep(new: Iterable[Measurement], path: Path) -> None:
  """Adds measurements to a file; they replace earlier ones of the same setting and form."""
  setting = lambda m: m[:4]
  new = tuple(new)
  kept = [m for m in recorded(path) if setting(m) not in set(map(setting, new))]
  text = io.StringIO()
  table = csv.writer(text, lineterminator="\n")
  table.writerow(COLUMNS)
  table.writerows((m.backend, m.device, *m.load, *m.form, f"{m.milliseconds:.4g}") for m in kept)
  table.writerows((m.backend, m.device, *m.load, *m.form, f"{m.milliseconds:.4g}") for m in new)
  path.parent.mkdir(parents=True, exist_ok=True)
  files.replace(path, text.getvalue().encode())


def unmeasured(backend: str, load: Load) -> Form:
  """The form of a run on a backend without measurements: one batched program, or a loop.

  It is a loop over clients if batching would make grouped convolutions, except small ones on a GPU.
  """
  if load.convolves and (backend != "gpu" or load.work > LAUNCH_BOUND):
    return ONE_LOOP
  return ONE_PROGRAM


def knows(rows: Iterable[Measurement], backend: str, device: str, load: Load) -> bool:
  """Whether there are rows of this device for half to twice the clients and the work."""
  near = lambda a, b: abs(math.log(max(a, 1) / max(b, 1))) <= math.log(2) + 1e-9
  return any(
    (row.backend, row.device, row.load.convolves) == (backend, device, load.convolves)
    and near(row.load.clients, load.clients)
    and near(row.load.work, load.work)
    for row in rows
  )


def choose(
  rows: Iterable[Measurement],
  backend: str,
  device: str,
  load: Load,
  *,
  local_map: str,
  conv: str,
  spreads: tuple[bool, ...],
) -> Form:
  """The fastest measured form for a run; among equal ones the first of `SOONER`.

  Args:
    rows: the rows of `measured`. Times of two machines are not compared: if this device has no row,
      those of the first device in the table count.
    backend: 'cpu', 'gpu' or 'tpu'; the result for one that was never measured is `unmeasured`.
    device: the name of this machine's device.
    load: the work of a device.
    local_map, conv: the config's `mesh.map` and `mesh.conv`; 'auto', or the form asked for.
    spreads: the values of `Form.spread` that the run can have.

  Raises:
    ConfigError: for a name that does not exist.
  """
  for key, value, names in (("map", local_map, MAPS), ("conv", conv, LOWERINGS)):
    if value not in ("auto", *names):
      raise ConfigError(f"mesh.{key}", value, "must be auto, " + ", ".join(names))

  def allowed(form):
    return (
      local_map in ("auto", form.local_map)
      and conv in ("auto", form.conv)
      and form.spread in spreads
    )

  usable = [
    r
    for r in rows
    if r.backend == backend and r.load.convolves == load.convolves and allowed(r.form)
  ]
  if not usable:
    form = unmeasured(backend, load)
    asked = {k: v for k, v in (("local_map", local_map), ("conv", conv)) if v != "auto"}
    return form._replace(**asked, spread=max(spreads))
  usable = [r for r in usable if r.device == device] or [
    r for r in usable if r.device == usable[0].device
  ]

  def distance(row):
    by_work = abs(math.log(row.load.work / max(load.work, 1)))
    return by_work + abs(math.log(row.load.clients / load.clients))

  least = min(distance(r) for r in usable)
  nearest = [r for r in usable if distance(r) == least]
  # Only a loop's memory and compilation time do not grow with K.
  if load.clients > 2 * nearest[0].load.clients:
    nearest = [r for r in nearest if r.form.local_map == "scan"] or nearest
  fast = min(r.milliseconds for r in nearest) * (1 + TIE)
  best = [r for r in nearest if r.milliseconds <= fast]
  return min(best, key=lambda r: (SOONER.index(r.form.local_map), r.milliseconds)).form
