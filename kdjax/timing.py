"""Forms of a step, compiled and timed: what `measure` compares, within bounds."""

import dataclasses
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from kdjax import experiment, layout
from kdjax.experiment import Experiment
from kdjax.forms import Form, Load
from kdjax.hardware import hlo, memory, target
from kdjax.hardware.cost import cost
from kdjax.hardware.target import GIB
from kdjax.training import program
from kdjax.training.stepper import Dispatch, Stepper

BLOCK = 0.3  # seconds of a block, about


class Bounds(NamedTuple):
  """What timing may take.

  Neither a compilation nor a dispatch can be interrupted: what has begun is finished.
  """

  compiling: float  # seconds; one begins only if the longest so far would still end in time
  timing: float  # seconds after which no block begins
  most: int  # forms that are timed, the cheapest
  runs: int  # blocks of each


class Timing(NamedTuple):
  """How one form did."""

  form: Form
  seconds: tuple[float, ...]  # a training step, one number a block
  compiling: float  # seconds until it was ready
  load: Load
  need: float  # bytes of a device, as its compiler says
  roofline: float | None = None  # seconds of a step that the compiled program would cost at best

  @property
  def median(self) -> float:
    """Seconds of a training step."""
    return statistics.median(self.seconds)


@dataclasses.dataclass
class Ready:
  """A form that is compiled."""

  form: Form
  stepper: Stepper
  dispatch: Dispatch
  arguments: tuple
  compiling: float
  need: float
  price: float | None
  repeats: int = 0  # dispatches of a block; 0: it never ran
  seconds: list[float] = dataclasses.field(default_factory=list)


class Shared:
  """What forms on the same devices share: the resident sets, and one state, donated in turn."""

  def __init__(self) -> None:
    """Nothing is there yet."""
    self.tables: dict[Any, Any] = {}
    self.states: dict[Any, Any] = {}

  def stepper(self, built: Experiment) -> Stepper:
    """A Stepper whose resident sets are those of the others."""
    stepper = Stepper(built, self.tables.get(built.env.mesh))
    self.tables[built.env.mesh] = stepper.tables
    return stepper

  def state(self, stepper: Stepper) -> Any:
    """The state, taken out: whoever takes it puts another back."""
    state = self.states.pop(stepper.experiment.env.mesh, None)
    return stepper.init() if state is None else state

  def put(self, stepper: Stepper, state: Any) -> None:
    """Puts a state back."""
    self.states[stepper.experiment.env.mesh] = state


def compiled(
  config: dict[str, Any],
  first: Experiment,
  tried: list[Form],
  shared: Shared,
  seconds: float,
  *,
  say,
) -> list[Ready]:
  """The forms that fit, compiled as a run's steps are, the cheapest by the roofline first.

  A dispatch is as long as a value says, so the price of its program is that of one step. On a
  device that no file of `hardware/targets` describes there are no prices, and the order stays.

  Args:
    config: nested dict.
    first: its experiment.
    tried: the forms.
    shared: Shared.
    seconds: `Bounds.compiling`.
    say: called with a line of text for every form.
  """
  ready: list[Ready] = []
  began, longest = time.perf_counter(), 0.0
  for form in tried:
    start = time.perf_counter()
    if start - began + longest > seconds:
      say(f"{words(form)}: left out, it might not be compiled within {seconds:.0f} s")
      continue
    one = _ready(config, form, first, shared)
    longest = max(longest, time.perf_counter() - start)
    if one is None:
      say(f"{words(form)}: does not fit")
      continue
    price = "" if one.price is None else f", {1e3 * one.price:.3g} ms by the roofline"
    say(f"{words(form)}: compiled in {one.compiling:.1f} s{price}, {one.need / GIB:.2f} GiB")
    ready.append(one)
  return sorted(ready, key=lambda one: one.price or 0.0)


def _ready(config, form, first, shared):
  """A form, compiled; None where it does not fit."""
  began = time.perf_counter()
  mesh = config["mesh"] | {"map": form.local_map, "conv": form.conv}
  devices = layout.default_devices([len(c.ids) for c in first.env.cohorts], form)
  stepper = shared.stepper(
    experiment.build(config | {"mesh": mesh}, data=first.data, devices=devices)
  )
  dispatch = next(d for d in stepper.dispatches(0) if d.visit.phase.feed)
  arguments = stepper.inputs(dispatch)
  jitted = program.jitted(stepper.experiment, dispatch.visit.phase)
  state = stepper.experiment.shapes()
  found = memory.compile(jitted.lower(state, *arguments, stepper.tables))
  where = target.of(devices[0])
  if found.program is None or (where and found.need > where.memory):
    return None
  stepper.experiment.programs[dispatch.visit.number] = found.program
  price = cost(hlo.parse(found.program.as_text() or ""), where).time if where else None
  compiling = time.perf_counter() - began
  return Ready(form, stepper, dispatch, arguments, compiling, found.need, price)


def timed(
  ready: list[Ready],
  load: Load,
  shared: Shared,
  bounds: Bounds,
  *,
  say,
  keep: Callable[[Timing], None],
) -> list[Timing]:
  """Times forms in turn, the fastest first; those that do not fit are left out.

  Args:
    ready: of `compiled`.
    load: what a device has to compute.
    shared: Shared.
    bounds: Bounds.
    say: called with a line of text for every form.
    keep: called with a form's Timing whenever it has a new block.
  """
  began, alive = time.perf_counter(), list(ready)
  for turn in range(bounds.runs):
    at = turn % max(1, len(alive))
    for one in alive[at:] + alive[:at]:
      if time.perf_counter() - began > bounds.timing:
        break
      try:
        one.seconds.append(_block(one, shared))
      except jax.errors.JaxRuntimeError as error:
        if not memory.exhausted(error):
          raise
        say(f"{words(one.form)}: does not fit")
        alive.remove(one)
        continue
      if len(one.seconds) == 1:
        say(f"{words(one.form)}: {1e3 * one.seconds[0]:.3g} ms a step")
      keep(_timing(one, load))
  return sorted((_timing(one, load) for one in alive if one.seconds), key=lambda t: t.median)


def _timing(one, load):
  return Timing(one.form, tuple(one.seconds), one.compiling, load, one.need, one.price)


def _block(one, shared):
  """Takes some training steps; returns the seconds of one."""
  began = time.perf_counter()
  state = shared.state(one.stepper)
  if not one.repeats:  # a step to warm up, then a dispatch that says how many make a block
    state, _ = one.stepper.run(state, one.dispatch._replace(calls=1))
    jax.block_until_ready(state)
    began = time.perf_counter()
    state, _ = one.stepper.run(state, one.dispatch, one.arguments)
    jax.block_until_ready(state)
    one.repeats = max(1, int(BLOCK / (time.perf_counter() - began)))
  if one.seconds or one.repeats > 1:  # a long dispatch is a block by itself
    began = time.perf_counter()
    for _ in range(one.repeats):  # two dispatches at most are under way, as in a run
      before = state
      state, _ = one.stepper.run(before, one.dispatch, one.arguments)
      jax.block_until_ready(state.calls)
    jax.block_until_ready(state)
  seconds = (time.perf_counter() - began) / (one.repeats * one.dispatch.calls)
  shared.put(one.stepper, state)
  return seconds


def words(form: Form) -> str:
  """A form's name."""
  return f"{form.local_map}, {form.conv}" + (", spread" if form.spread else "")
