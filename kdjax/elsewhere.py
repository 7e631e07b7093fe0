"""`--plan --target=...`: what an experiment would cost on a machine that is not here.

Every program of the experiment is compiled by the target's own compiler. Its memory and its
instructions are the compiler's word; times are the roofline's: each kernel takes what the slower of
arithmetic and memory takes at the data sheet's rates, none overlap. Only a clock decides.
"""

import dataclasses
import io
import json
import math
import time
from typing import TYPE_CHECKING, Any

import jax

from kdjax import experiment, layout, plan
from kdjax.checks import validate
from kdjax.config import plain
from kdjax.hardware import hlo, memory
from kdjax.hardware import target as targets
from kdjax.hardware.cost import Cost, cost
from kdjax.hardware.target import GIB, Target
from kdjax.training import schedule
from kdjax.types import ConfigError

if TYPE_CHECKING:
  from kdjax.experiment import Experiment


@dataclasses.dataclass(frozen=True)
class PhasePlan:
  """One phase of an experiment, compiled for a target."""

  name: str
  calls: int  # in the whole run
  compiling: float  # seconds that it took here
  memory: memory.Compiled
  cost: Cost | None  # None: it does not fit, and the compiler wrote no program
  estimate: (
    float | None
  )  # seconds of a call, a TPU's compiler's own; None where it has none, or a loop

  @property
  def seconds(self) -> float:
    """Of all its calls, by the roofline."""
    return self.calls * self.cost.time if self.cost else math.nan


@dataclasses.dataclass(frozen=True)
class TargetPlan:
  """An experiment, compiled for a target."""

  target: Target
  layout: dict[str, Any]  # mesh, map, batches as they were compiled
  phases: tuple[PhasePlan, ...]
  changed: tuple[str, ...]  # what had to differ from the config to fit, such as "mesh.remat='on'"

  @property
  def need(self) -> float:
    """Bytes a device, of the phase that needs most."""
    return max(phase.memory.need for phase in self.phases)

  @property
  def fits(self) -> bool:
    """Whether every phase fits into a device's memory."""
    return self.need <= self.target.memory and all(p.cost for p in self.phases)

  @property
  def seconds(self) -> float:
    """Of the whole run, by the roofline."""
    return sum(phase.seconds for phase in self.phases)


def make(config: Any, name: str) -> TargetPlan:
  """Compiles an experiment for a target, and changes it as little as makes it fit.

  Where it does not fit: activations are computed again (`mesh.remat` 'auto', networks that offer
  it), then batches are halved, at most four times. The last attempt is returned, whether it fits or
  not.

  Args:
    config: as `experiment.build` takes it; its data are not read.
    name: of the target, 'v5e:2x4'.

  Raises:
    ConfigError: for whatever in the config or the target cannot work.
  """
  config = plain(config)
  validate(config)
  target = targets.parse(name)
  config["mesh"] |= {"steps_per_dispatch": 1}  # a dispatch's length is a value: its body is priced
  with targets.compiling(target) as devices:
    found = _compiled(config, target, devices, ())
    for changes in _smaller(config, found):
      if found.fits:
        break
      found = _compiled(_with(config, changes), target, devices, tuple(_words(changes)))
  return found


def _smaller(config, first):
  """Changes of the config, each smaller than the one before."""
  base = {}
  if first.layout["can rematerialise"] and config["mesh"]["remat"] == "auto":
    base = {"mesh.remat": "on"}
    yield base
  batch = {key: config[key] for key in ("batch", "public_batch") if config[key]}
  parts = first.layout["mesh"]["data"]
  for _ in range(4):
    batch = {key: size // 2 for key, size in batch.items()}
    if any(size == 0 or size % parts for size in batch.values()):
      return
    yield base | batch


def _with(config, changes):
  out = config | {"mesh": dict(config["mesh"])}
  for key, value in changes.items():
    group, _, name = key.rpartition(".")
    (out[group] if group else out)[name] = value
  return out


def _words(changes):
  return [f"{key}={value!r}" for key, value in changes.items()]


def _compiled(config, target, devices, changed):
  planned = experiment.build(config, data=plan.described(config), devices=list(devices))
  calls = schedule.totals(planned.visits)
  phases = []
  for visit in plan.first_visits(planned):
    began = time.perf_counter()
    compiled = memory.compile(plan.lower(planned, visit), targets.options(target))
    seconds = time.perf_counter() - began
    phases.append(_phase(visit.phase.name, calls[visit.number], seconds, compiled, target))
  return TargetPlan(target, _layout(planned), tuple(phases), changed)


def _phase(name, calls, seconds, compiled, target):
  if compiled.program is None:
    return PhasePlan(name, calls, seconds, compiled, None, None)
  module = hlo.parse(compiled.program.as_text() or "")
  said = (compiled.program.cost_analysis() or {}).get("optimal_seconds", -1.0)
  looped = any(one.op == "while" for one, *_ in module.runs())  # it counts a loop's body once
  estimate = said if said > 0 and not looped else None
  return PhasePlan(name, calls, seconds, compiled, cost(module, target), estimate)


def _layout(planned: "Experiment") -> dict[str, Any]:
  env = planned.env
  return {
    "mesh": dict(env.mesh.shape),
    "map": env.local_map,
    "blocks": "scan" if env.scan else "unroll",
    "clients": env.clients,
    "batch": planned.config["batch"],
    "public batch": planned.config["public_batch"],
    "can rematerialise": layout.rematerialises(env.cohorts),
  }


def record(found: TargetPlan, price: float) -> dict[str, Any]:
  """The plan as JSON can hold it.

  Args:
    found: TargetPlan.
    price: of a device and hour; 0: not known.
  """
  hours = found.seconds / 3600
  return {
    "target": found.target.name,
    "device": found.target.description,
    "devices": found.target.size,
    "layout": {k: v for k, v in found.layout.items() if k != "can rematerialise"},
    "changed": list(found.changed),
    "fits": found.fits,
    "bytes_needed": found.need,
    "bytes_there": found.target.memory,
    "hours": None if math.isnan(hours) else hours,
    "price": hours * found.target.size * price if price and not math.isnan(hours) else None,
    "phases": [_phase_record(phase) for phase in found.phases],
    "jax": jax.__version__,
  }


def _phase_record(phase: PhasePlan) -> dict[str, Any]:
  held = phase.memory
  out: dict[str, Any] = {
    "name": phase.name,
    "calls": phase.calls,
    "compile_seconds": phase.compiling,
    "arguments": held.arguments,
    "temporaries": held.temporaries,
    "other_bytes": held.rest,
    "compiler_seconds": phase.estimate,
  }
  if phase.cost:
    c = phase.cost
    out |= {
      "flops": c.flops,
      "bytes_moved": c.moved,
      "launches": c.launches,
      "launches_in_command_buffers": c.recorded,
      "roofline_seconds": c.time,
      "binds": c.binds,
      "seconds_by_side": dict(c.seconds),
      "collectives": {k: {"number": n, "bytes": b} for k, (n, b) in c.collectives.items()},
      "products": [
        {"kind": kind, "dtype": dtype, "layout": laid, "number": n}
        for (kind, dtype, laid), n in sorted(c.products.items())
      ],
    }
  return out


def render(found: TargetPlan, price: float) -> str:
  """The plan as tables of text."""
  from rich.console import Console
  from rich.table import Table

  target, text = found.target, io.StringIO()
  console = Console(file=text, width=100)
  mesh = found.layout["mesh"]
  title = (
    f"{target.size} x {target.description} ({target.name}), mesh {mesh['client']} x {mesh['data']}"
  )
  table = Table(title=f"{title}, map {found.layout['map']}", title_justify="left")
  columns = [
    "phase",
    "calls",
    "memory",
    "TFLOP",
    "moved",
    "launches",
    "messages",
    "roofline",
    "binds",
  ]
  for column in columns:
    table.add_column(column, justify="left" if column in ("phase", "binds") else "right")
  for phase in found.phases:
    table.add_row(*_row(phase, target))
  console.print(table)
  for line in lines(found, price):
    console.print(line, highlight=False, markup=False)
  return text.getvalue().rstrip()


def _row(phase, target):
  need = plan.human(phase.memory.need)
  if phase.cost is None:
    return phase.name, f"{phase.calls:,}", need, *("-",) * 6
  c = phase.cost
  sent = sum(b for _, b in c.collectives.values())
  number = sum(n for n, _ in c.collectives.values())
  launches = f"{c.launches:,.0f}" + (f" + {c.recorded:,.0f}" if c.recorded else "")
  return (
    phase.name,
    f"{phase.calls:,}",
    need,
    f"{c.flops / 1e12:.3g}",
    plan.human(c.moved),
    launches if target.kind == "gpu" else "-",  # a TPU's program is one
    f"{number:,.0f}: {plan.human(sent)}" if number else "none",
    duration(c.time),
    c.binds,
  )


def lines(found: TargetPlan, price: float) -> list[str]:
  """What the table does not say, in sentences."""
  target = found.target
  out = []
  if found.changed:
    out.append(f"As configured it does not fit; compiled with {', '.join(found.changed)}.")
  there = f"{found.need / GIB:.2f} of {target.memory / GIB:.2f} GiB a device"
  if found.fits:
    out.append(f"Fits: {there}.")
  else:
    more = math.ceil(found.need / target.memory)
    lacks = (found.need - target.memory) / GIB
    out.append(f"Does not fit: {there}, {lacks:.2f} too many; try {more} times the devices.")
  for phase in found.phases:
    if phase.cost:
      out += [f"{phase.name}: {text}" for text in _products(phase.cost)]
    if phase.estimate is not None:
      out.append(f"{phase.name}: the compiler's own estimate is {duration(phase.estimate)} a call.")
  if not math.isnan(found.seconds):
    hours = found.seconds / 3600
    paid = f", {hours * target.size * price:,.2f} at {price:g} a device and hour" if price else ""
    out.append(f"Whole run: {duration(found.seconds)} by the roofline, never less{paid}.")
  out.append("Memory and instructions: the compiler's word; times: data sheet rates, no clock.")
  return out


def _products(c: Cost) -> list[str]:
  parts: dict[tuple[str, str], float] = {}
  layouts: dict[str, set[str]] = {}
  for (kind, dtype, laid), n in c.products.items():
    parts[kind, dtype] = parts.get((kind, dtype), 0) + n
    layouts.setdefault(kind, set()).add(laid)
  found = [f"{n:,.0f} {kind}s in {dtype}" for (kind, dtype), n in sorted(parts.items())]
  laid = ", ".join(sorted(layouts.get("convolution", set())))
  return [", ".join(found) + (f"; dimensions {laid}" if laid else "")] if found else []


def duration(seconds: float) -> str:
  """Seconds in a unit that reads well."""
  units = ("h", 3600.0), ("min", 60.0), ("s", 1.0), ("ms", 1e-3), ("us", 1e-6), ("ns", 1e-9)
  unit, size = next((u for u in units if seconds >= u[1]), units[-1])
  value = seconds / size
  return f"{value:,.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"


def describe(config: Any, names: list[str], *, price: float, as_json: bool) -> str:
  """The plans for some targets as text.

  Raises:
    ConfigError: for whatever in the config or a target cannot work.
  """
  if price < 0 or not math.isfinite(price):
    raise ConfigError("--price", price, "must be a number, 0 or more")
  for name in names:
    targets.parse(name)  # all are named rightly before the first is compiled
  plans = [make(config, name) for name in names]
  if as_json:
    return json.dumps([record(one, price) for one in plans], indent=2)
  return "\n\n".join(render(one, price) for one in plans)
