"""Compiles and times forms of a step, within bounds, for `measure` to compare."""

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

BLOCK = 0.3  # the approximate seconds of a block


class Bounds(NamedTuple):
  """The bounds of a comparison.

  Neither a compilation nor a dispatch can be interrupted: each one that has begun is finished.
  """

  compiling: float  # seconds; a compilation begins only if one as long as the longest would fit
  timing: float  # seconds after which no block begins
  most: int  # forms to time, the cheapest ones
  runs: int  # blocks of each form


class Timing(NamedTuple):
  """The measurements of one form."""

  form: Form
  seconds: tuple[float, ...]  # of a training step, one number per block
  compiling: float  # seconds until the form was ready
  load: Load
  need: float  # bytes per device, by its compiler
  roofline: float | None = None  # the least seconds of a step of the compiled program

  @property
  def median(self) -> float:
    """The median over blocks of the seconds of a training step."""
    return statistics.median(self.seconds)


@dataclasses.dataclass
class Ready:
  """A compiled form."""

  form: Form
  stepper: Stepper
  dispatch: Dispatch
  arguments: tuple
  compiling: float
  need: float
  price: float | None
  repeats: int = 0  # dispatches of a block; 0: the form has not run yet
  seconds: list[float] = dataclasses.field(default_factory=list)


class Shared:
  """The arrays that forms on the same devices share: the resident sets, and one state in turn."""

  def __init__(self) -> None:
    """Begins without arrays."""
    self.tables: dict[Any, Any] = {}
    self.states: dict[Any, Any] = {}

  def stepper(self, built: Experiment) -> Stepper:
    """A Stepper that shares its resident sets with those on the same mesh."""
    stepper = Stepper(built, self.tables.get(built.env.mesh))
    self.tables[built.env.mesh] = stepper.tables
    return stepper

  def state(self, stepper: Stepper) -> Any:
    """Takes the state out; the caller must `put` one back."""
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
  """Compiles forms as a run compiles its steps; returns those that fit, the cheapest first.

  The price is the roofline's. The number of steps in a dispatch is a traced value, so the price of
  its program is that of one step. On a device that no file of `hardware/targets` describes there
  are no prices, and the order stays.

  Args:
    config: nested dict.
    first: the config's experiment.
    tried: the forms.
    shared: Shared.
    seconds: `Bounds.compiling`.
    say: called with a line of text for every form.
  """
  ready: list[Ready] = []
  began = time.perf_counter()
  longest = 0.0
  for form in tried:
    start = time.perf_counter()
    if start - began + longest > seconds:
      say(f"{words(form)}: left out, it might not be compiled within {seconds:.0f} s")
      continue
    made = _ready(config, form, first, shared)
    longest = max(longest, time.perf_counter() - start)
    if made is None:
      say(f"{words(form)}: does not fit")
      continue
    price = "" if made.price is None else f", {1e3 * made.price:.3g} ms by the roofline"
    say(f"{words(form)}: compiled in {made.compiling:.1f} s{price}, {made.need / GIB:.2f} GiB")
    ready.append(made)
  return sorted(ready, key=lambda made: made.price or 0.0)


def _ready(config, form, first, shared):
  """Compiles a form; None if it does not fit."""
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
  compiled = memory.compile(jitted.lower(state, *arguments, stepper.tables))
  sheet = target.of(devices[0])
  if compiled.program is None or (sheet and compiled.need > sheet.memory):
    return None
  stepper.experiment.programs[dispatch.visit.number] = compiled.program
  price = cost(hlo.parse(compiled.program.as_text() or ""), sheet).time if sheet else None
  compiling = time.perf_counter() - began
  return Ready(form, stepper, dispatch, arguments, compiling, compiled.need, price)


def timed(
  ready: list[Ready],
  load: Load,
  shared: Shared,
  bounds: Bounds,
  *,
  say,
  keep: Callable[[Timing], None],
) -> list[Timing]:
  """Times forms in turn; returns those that fit, the fastest first.

  Args:
    ready: the forms from `compiled`.
    load: the work of a device.
    shared: Shared.
    bounds: Bounds.
    say: called with a line of text for every form.
    keep: called with a form's Timing after each of its blocks.
  """
  began = time.perf_counter()
  fitting = list(ready)
  for turn in range(bounds.runs):
    shift = turn % max(1, len(fitting))
    for made in fitting[shift:] + fitting[:shift]:
      if time.perf_counter() - began > bounds.timing:
        break
      try:
        made.seconds.append(_block(made, shared))
      except jax.errors.JaxRuntimeError as error:
        if not memory.exhausted(error):
          raise
        say(f"{words(made.form)}: does not fit")
        fitting.remove(made)
        continue
      if len(made.seconds) == 1:
        say(f"{words(made.form)}: {1e3 * made.seconds[0]:.3g} ms per step")
      keep(_timing(made, load))
  return sorted((_timing(made, load) for made in fitting if made.seconds), key=lambda t: t.median)


def _timing(made, load):
  return Timing(made.form, tuple(made.seconds), made.compiling, load, made.need, made.price)


def _block(made, shared):
  """Times a block of training steps; returns the seconds of one step."""
  began = time.perf_counter()
  state = shared.state(made.stepper)
  if not made.repeats:  # one step to warm up, then a dispatch whose time gives `repeats`
    state, _ = made.stepper.run(state, made.dispatch._replace(calls=1))
    jax.block_until_ready(state)
    began = time.perf_counter()
    state, _ = made.stepper.run(state, made.dispatch, made.arguments)
    jax.block_until_ready(state)
    made.repeats = max(1, int(BLOCK / (time.perf_counter() - began)))
  if made.seconds or made.repeats > 1:  # otherwise that dispatch was the block
    began = time.perf_counter()
    for _ in range(made.repeats):  # at most two dispatches are under way, as in a run
      before = state
      state, _ = made.stepper.run(before, made.dispatch, made.arguments)
      jax.block_until_ready(state.calls)
    jax.block_until_ready(state)
  seconds = (time.perf_counter() - began) / (made.repeats * made.dispatch.calls)
  shared.put(made.stepper, state)
  return seconds


def words(form: Form) -> str:
  """A form in words."""
  return f"{form.local_map}, {form.conv}" + (", spread" if form.spread else "")
