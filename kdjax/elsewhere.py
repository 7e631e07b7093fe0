"""`--plan --target=...`: what an experiment would cost on a machine that is not here.

Every program of the experiment is compiled by the target's own compiler. Its memory and its
instructions are the compiler's word; times are the roofline's: each kernel takes what the slower of
arithmetic and memory takes at the data sheet's rates, none overlap. Only a clock decides.
"""

import dataclasses
import json
import math
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import jax

from kdjax import elsewhere_tables as tables
from kdjax import experiment, layout, measure, plan
from kdjax.checks import validate
from kdjax.config import plain
from kdjax.forms import Form
from kdjax.hardware import hlo, memory
from kdjax.hardware import target as targets
from kdjax.hardware.cost import Cost, cost
from kdjax.hardware.target import Target
from kdjax.training import schedule
from kdjax.types import ConfigError

if TYPE_CHECKING:
  from kdjax.experiment import Experiment

EVALUATION = "evaluate"  # the name of the phase that measures accuracy
HALVINGS = 4  # of a batch that does not fit, at most


@dataclasses.dataclass(frozen=True)
class PhasePlan:
  """One phase of an experiment, compiled for a target."""

  name: str
  calls: int  # in the whole run
  compiling: float  # seconds that it took here
  memory: memory.Compiled
  cost: Cost | None  # None: it does not fit
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
  resident: int  # bytes of the training sets that every device holds all the time
  thriftier: tuple[dict[str, str], ...]  # settings of `mesh` that need less, results being the same

  @property
  def need(self) -> float:
    """Bytes a device, of the phase that needs most."""
    return self.resident + max(phase.memory.need for phase in self.phases)

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

  Where it does not fit: clients take turns, then activations are computed again, as far as the
  config leaves it open, which changes no result; then batches are halved, at most four times, which
  does. The last attempt is returned, whether it fits or not. An evaluation's batch changes no
  result, and is halved by itself.

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
    planned, found = _compiled(config, target, devices, ())
    for changes in _smaller(config, found):
      if found.fits:
        break
      words = tuple(_words(changes))
      planned, found = _compiled(_with(config, changes), target, devices, words)
    return _evaluated(planned, found)


def _smaller(config, first):
  """Changes of the config, each smaller than the one before."""
  base: dict[str, Any] = {}
  for mesh in first.thriftier:
    base = {f"mesh.{key}": value for key, value in mesh.items()}
    yield base
  batch = {key: config[key] for key in ("batch", "public_batch") if config[key]}
  parts = first.layout["mesh"]["data"]
  for _ in range(HALVINGS):
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
  """(the experiment, what its phases need on a target)."""
  planned = experiment.build(config, data=plan.described(config), devices=list(devices))
  phases = [_visited(planned, visit, target) for visit in plan.first_visits(planned)]
  thriftier = layout.thriftier(config["mesh"], planned.env)
  resident = plan.resident(planned)
  thrift = tuple(thriftier)
  return planned, TargetPlan(target, _layout(planned), tuple(phases), changed, resident, thrift)


def _evaluated(planned, found):
  """The plan with the passes that measure accuracy as its last phase, in a batch that fits."""
  evals, parts = planned.config["evals"], planned.env.mesh.shape["data"]
  if "accuracy" not in evals:
    return found
  asked = evals["accuracy"]["batch"]
  batch, phase = asked, _passes(planned, asked, found.target)
  for _ in range(HALVINGS):
    if found.resident + phase.memory.need <= found.target.memory or batch % (2 * parts):
      break
    batch //= 2
    phase = _passes(planned, batch, found.target)
  changed = () if batch == asked else (f"evals.accuracy.batch={batch}",)
  return dataclasses.replace(
    found, phases=(*found.phases, phase), changed=(*found.changed, *changed)
  )


def _passes(planned, batch, target):
  calls, lowered = plan.evaluation(planned, batch)
  return _priced(EVALUATION, calls, lowered, target)


def price_forms(config: Any, name: str) -> list[tuple[Form, PhasePlan]]:
  """A config's first training phase, compiled for a target in every form, the cheapest first.

  A form that does not fit beside the training sets has no cost, and comes last.

  Args:
    config, name: as in `make`.

  Raises:
    ConfigError: for whatever in the config or the target cannot work.
  """
  config = plain(config)
  validate(config)
  target = targets.parse(name)
  found = []
  with targets.compiling(target) as devices:
    data = plan.described(config)
    env = experiment.build(config, data=data, devices=devices).env
    load = layout.load(config, env.cohorts, env.task.image, env.dtype, devices)
    for form in measure.candidates(load, [len(c.ids) for c in env.cohorts]):
      asked = {"map": form.local_map, "conv": form.conv, "steps_per_dispatch": 1}
      changed = config | {"mesh": config["mesh"] | asked}
      planned = experiment.build(changed, data=data, devices=devices)
      visit = next(v for v in plan.first_visits(planned) if v.phase.feed)
      phase = _visited(planned, visit, target)
      if plan.resident(planned) + phase.memory.need > target.memory:
        phase = dataclasses.replace(phase, cost=None)
      found.append((form, phase))
  return sorted(found, key=lambda one: one[1].cost.time if one[1].cost else math.inf)


def _visited(planned, visit, target):
  calls = schedule.totals(planned.visits)[visit.number]
  return _priced(visit.phase.name, calls, plan.lower(planned, visit), target)


def _priced(name, calls, lowered, target):
  began = time.perf_counter()
  compiled = memory.compile(lowered, targets.options(target))
  seconds = time.perf_counter() - began
  return _phase(name, calls, seconds, compiled, target)


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
    "layout": found.layout,
    "changed": list(found.changed),
    "fits": found.fits,
    "bytes_needed": found.need,
    "bytes_there": found.target.memory,
    "bytes_of_resident_data": found.resident,
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
      "roofline_seconds": c.time,
      "roofline_seconds_in_command_buffers": c.replayed,
      "binds": c.binds,
      "seconds_by_side": dict(c.seconds),
      "collectives": {k: {"number": n, "bytes": b} for k, (n, b) in c.collectives.items()},
      "products": [
        {"kind": kind, "dtype": dtype, "layout": laid, "number": n}
        for (kind, dtype, laid), n in sorted(c.products.items())
      ],
    }
  return out


def describe(
  config: Any, names: list[str], *, price: float, as_json: bool, forms: bool
) -> Iterator[str]:
  """The plans for some targets as text, each as soon as it is there; as JSON all at once.

  Args:
    config: as in `make`.
    names: of the targets.
    price: of a device and hour; 0: not known.
    as_json: whether as JSON.
    forms: whether of every form of the first training phase, in place of all phases in one form.

  Raises:
    ConfigError: for whatever in the config or a target cannot work.
  """
  if price < 0 or not math.isfinite(price):
    raise ConfigError("--price", price, "must be a number, 0 or more")
  for target in [targets.parse(name) for name in names]:
    with targets.compiling(target):
      pass  # all compilers are there before the first works for minutes
  if forms and as_json:
    rows = lambda found: [{**form._asdict(), **_phase_record(phase)} for form, phase in found]
    yield json.dumps({name: rows(price_forms(config, name)) for name in names}, indent=2)
  elif as_json:
    yield json.dumps([record(make(config, name), price) for name in names], indent=2)
  else:
    for name in names:
      if forms:
        yield tables.forms(targets.parse(name), price_forms(config, name)) + "\n"
      else:
        yield tables.render(make(config, name), price) + "\n"
