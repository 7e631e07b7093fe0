"""`--plan --target=...`: the cost of an experiment on a machine that is not at hand.

The target's own compiler compiles every program of the experiment. Memory and instructions are
those of the compiled programs. Times are the roofline's: each kernel takes as long as the slower of
its arithmetic and its memory traffic at the data sheet's rates, and kernels do not overlap. Only a
measurement decides.
"""

import dataclasses
import json
import math
import time
from collections.abc import Callable, Iterator
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
HALVINGS = 4  # the most halvings of a batch that does not fit
Say = Callable[[str], None]  # takes a line about the work's progress
QUIET: Say = lambda text: None


@dataclasses.dataclass(frozen=True)
class PhasePlan:
  """One phase of an experiment, compiled for a target."""

  name: str
  calls: int  # calls in the whole run
  compiling: float  # seconds of compilation on this machine
  memory: memory.Compiled
  cost: Cost | None  # None: the program does not fit
  # Seconds of a call by a TPU's compiler; None if it gives no estimate, or the program has a loop.
  estimate: float | None

  @property
  def seconds(self) -> float:
    """Seconds of all calls, by the roofline."""
    return self.calls * self.cost.time if self.cost else math.nan


@dataclasses.dataclass(frozen=True)
class TargetPlan:
  """An experiment, compiled for a target."""

  target: Target
  layout: dict[str, Any]  # mesh, map and batches of the compiled programs
  phases: tuple[PhasePlan, ...]
  changed: tuple[str, ...]  # changes of the config to make it fit, such as "mesh.remat='on'"
  resident: int  # bytes of the training sets that every device holds all the time
  thriftier: tuple[dict[str, str], ...]  # settings of `mesh` that need less memory, same results

  @property
  def need(self) -> float:
    """Bytes per device of the phase that needs most."""
    return self.resident + max(phase.memory.need for phase in self.phases)

  @property
  def fits(self) -> bool:
    """Whether every phase fits into a device's memory."""
    return self.need <= self.target.memory and all(p.cost for p in self.phases)

  @property
  def seconds(self) -> float:
    """Seconds of the whole run, by the roofline."""
    return sum(phase.seconds for phase in self.phases)


def make(config: Any, name: str, say: Say = QUIET) -> TargetPlan:
  """Compiles an experiment for a target, with the smallest changes that make it fit.

  If it does not fit, first the clients take turns, then activations are recomputed, where the
  config leaves that open. Neither changes a result. Then batches are halved, at most four times,
  which does change results. The last attempt is returned, whether it fits or not. An evaluation's
  batch changes no result and is halved separately.

  Args:
    config: as in `experiment.build`; its data are not read.
    name: the target's name, such as 'v5e:2x4'.
    say: called with a line of text when a compilation begins and when it has ended.

  Raises:
    ConfigError: for anything in the config or the target that cannot work.
  """
  config = plain(config)
  validate(config)
  target = targets.parse(name)
  config["mesh"] |= {"steps_per_dispatch": 1}  # the price is that of one step
  with targets.compiling(target) as devices:
    planned, target_plan = _compiled(config, target, devices, (), say)
    for changes in _smaller(config, target_plan):
      if target_plan.fits:
        break
      words = tuple(_words(changes))
      say(f"{target.name}: does not fit; once more with {', '.join(words)}")
      planned, target_plan = _compiled(_with(config, changes), target, devices, words, say)
    return _evaluated(planned, target_plan, say)


def _smaller(config, first):
  """Yields changes of the config that need less and less memory."""
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


def _compiled(config, target, devices, changed, say):
  """(the experiment, its TargetPlan)."""
  planned = experiment.build(config, data=plan.described(config), devices=list(devices))
  phases = [_phase_plan(planned, visit, target, say) for visit in plan.first_visits(planned)]
  target_plan = TargetPlan(
    target=target,
    layout=_layout(planned),
    phases=tuple(phases),
    changed=changed,
    resident=plan.resident(planned),
    thriftier=tuple(layout.thriftier(config["mesh"], planned.env)),
  )
  return planned, target_plan


def _evaluated(planned, target_plan, say):
  """The plan with the evaluation of accuracy as its last phase, in a batch that fits."""
  evals = planned.config["evals"]
  parts = planned.env.mesh.shape["data"]
  target = target_plan.target
  if "accuracy" not in evals:
    return target_plan
  asked = evals["accuracy"]["batch"]
  batch = asked
  phase = _evaluation_plan(planned, batch, target, say)
  for _ in range(HALVINGS):
    if target_plan.resident + phase.memory.need <= target.memory or batch % (2 * parts):
      break
    batch //= 2
    phase = _evaluation_plan(planned, batch, target, say)
  changed = () if batch == asked else (f"evals.accuracy.batch={batch}",)
  return dataclasses.replace(
    target_plan,
    phases=(*target_plan.phases, phase),
    changed=(*target_plan.changed, *changed),
  )


def _evaluation_plan(planned, batch, target, say):
  return _priced(EVALUATION, lambda: plan.evaluation(planned, batch), target, say)


def price_forms(config: Any, name: str, say: Say = QUIET) -> list[tuple[Form, PhasePlan]]:
  """Compiles a config's first training phase for a target in every form, the cheapest first.

  A form that does not fit beside the training sets has no cost and comes last.

  Args:
    config, name, say: as in `make`.

  Raises:
    ConfigError: for anything in the config or the target that cannot work.
  """
  config = plain(config)
  validate(config)
  target = targets.parse(name)
  plans = []
  with targets.compiling(target) as devices:
    data = plan.described(config)
    env = experiment.build(config, data=data, devices=devices).env
    load = layout.load(config, env.cohorts, env.task.image, env.dtype, devices)
    for form in measure.candidates(load, [len(c.ids) for c in env.cohorts]):
      asked = {"map": form.local_map, "conv": form.conv, "steps_per_dispatch": 1}
      changed = config | {"mesh": config["mesh"] | asked}
      planned = experiment.build(changed, data=data, devices=devices)
      visit = next(v for v in plan.first_visits(planned) if v.phase.feed)
      say(f"{target.name}: {form.local_map}, {form.conv}")
      phase = _phase_plan(planned, visit, target, say)
      if plan.resident(planned) + phase.memory.need > target.memory:
        phase = dataclasses.replace(phase, cost=None)
      plans.append((form, phase))
  return sorted(plans, key=lambda pair: pair[1].cost.time if pair[1].cost else math.inf)


def _phase_plan(planned, visit, target, say):
  calls = schedule.totals(planned.visits)[visit.number]
  return _priced(visit.phase.name, lambda: (calls, plan.lower(planned, visit)), target, say)


def _priced(name, lower, target, say):
  """The PhasePlan of a program; `lower` is () -> (calls in the whole run, the lowered program)."""
  say(f"{target.name}: compiling {name}")
  calls, lowered = lower()
  began = time.perf_counter()
  compiled = memory.compile(lowered, targets.options(target))
  seconds = time.perf_counter() - began
  say(f"{target.name}: {name} compiled in {seconds:.0f} s")
  return _phase(name, calls, seconds, compiled, target)


def _phase(name, calls, seconds, compiled, target):
  """The PhasePlan of a compiled program."""
  if compiled.program is None:
    return PhasePlan(name, calls, seconds, compiled, None, None)
  module = hlo.parse(compiled.program.as_text() or "")
  optimal = (compiled.program.cost_analysis() or {}).get("optimal_seconds", -1.0)
  # The compiler's estimate counts the body of a loop once.
  has_loop = any(instruction.op == "while" for instruction, *_ in module.runs())
  estimate = optimal if optimal > 0 and not has_loop else None
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


def record(target_plan: TargetPlan, price: float) -> dict[str, Any]:
  """The plan in JSON's types.

  Args:
    target_plan: TargetPlan.
    price: the price of a device per hour; 0: not known.
  """
  target = target_plan.target
  hours = target_plan.seconds / 3600
  return {
    "target": target.name,
    "device": target.description,
    "devices": target.size,
    "layout": target_plan.layout,
    "changed": list(target_plan.changed),
    "fits": target_plan.fits,
    "bytes_needed": target_plan.need,
    "bytes_there": target.memory,
    "bytes_of_resident_data": target_plan.resident,
    "hours": None if math.isnan(hours) else hours,
    "price": hours * target.size * price if price and not math.isnan(hours) else None,
    "phases": [_phase_record(phase) for phase in target_plan.phases],
    "jax": jax.__version__,
  }


def _phase_record(phase: PhasePlan) -> dict[str, Any]:
  out: dict[str, Any] = {
    "name": phase.name,
    "calls": phase.calls,
    "compile_seconds": phase.compiling,
    "arguments": phase.memory.arguments,
    "temporaries": phase.memory.temporaries,
    "other_bytes": phase.memory.rest,
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
        {"kind": kind, "dtype": dtype, "layout": dimensions, "number": n}
        for (kind, dtype, dimensions), n in sorted(c.products.items())
      ],
    }
  return out


def describe(
  config: Any, names: list[str], *, price: float, as_json: bool, forms: bool, say: Say = QUIET
) -> Iterator[str]:
  """Yields the plans for some targets as text, each as soon as it is ready; as JSON all at once.

  Args:
    config: as in `make`.
    names: the targets' names.
    price: the price of a device per hour; 0: not known.
    as_json: whether to yield JSON.
    forms: whether to plan the first training phase in every form, instead of all phases in one.
    say: as in `make`.

  Raises:
    ConfigError: for anything in the config or a target that cannot work.
  """
  if price < 0 or not math.isfinite(price):
    raise ConfigError("--price", price, "must be a number, 0 or more")
  for target in [targets.parse(name) for name in names]:
    with targets.compiling(target):
      pass  # raises at once if a compiler is missing, before another one works for minutes
  if forms and as_json:
    rows = lambda plans: [{**form._asdict(), **_phase_record(phase)} for form, phase in plans]
    yield json.dumps({name: rows(price_forms(config, name, say)) for name in names}, indent=2)
  elif as_json:
    yield json.dumps([record(make(config, name, say), price) for name in names], indent=2)
  else:
    for name in names:
      if forms:
        yield tables.forms(targets.parse(name), price_forms(config, name, say)) + "\n"
      else:
        yield tables.render(make(config, name, say), price) + "\n"
