"""Checks that a method keeps the contract (types.py); the errors name what is wrong.

A check that is made while a program is traced costs nothing when the program runs. Every phase of a
user's own method is traced before any training.
"""

import numbers
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from kdjax.training import schedule
from kdjax.types import Algorithm, ConfigError, Phase, PyTree, TrainState

KEY = "algorithm"


def check(name: str, made: Any) -> None:
  """Checks that a method's `make` returned an Algorithm.

  Raises:
    ConfigError: otherwise, as all functions of this module do; its value is the method's name.
  """
  if not isinstance(made, Algorithm):
    raise ConfigError(KEY, name, f"its make returned {_kind(made)}, not a kdjax.types.Algorithm")
  for part in ("prologue", "cycle"):
    phases = getattr(made, part)
    if not isinstance(phases, tuple) or not all(isinstance(p, Phase) for p in phases):
      raise ConfigError(KEY, name, f"its {part} is {_kind(phases)}, not a tuple of Phase")


def check_start(name: str, made: Any, cohorts: int) -> None:
  """Checks that `Algorithm.init` returned (clients, local, server)."""
  whole = isinstance(made, tuple) and len(made) == 3
  if not whole or not all(isinstance(x, tuple) and len(x) == cohorts for x in made[:2]):
    hint = "(clients, local, server), the first two tuples with an entry for every cohort"
    raise ConfigError(KEY, name, f"its init must return {hint}: it returned {_kind(made)}")


def check_step(
  name: str, phase: Phase, before: TrainState, made: Any, sizes: Sequence[int]
) -> None:
  """Checks that a phase's step returned (state, aux) of the contract's shapes.

  Args:
    name: the method's name.
    phase: the step's phase.
    before: the state that the step received.
    made: what the step returned.
    sizes: clients of every cohort on this device.
  """
  if not isinstance(made, tuple) or len(made) != 2 or not isinstance(made[0], TrainState):
    hint = f"(TrainState, aux), not {_kind(made)}"
  else:
    hint = _other_state(before, made[0]) or (
      _other_aux(phase, made[1], sizes) if phase.feed else ""
    )
  if hint:
    raise ConfigError(KEY, name, f"phase {phase.name!r}: its step must return {hint}")


def _other_state(before, after):
  """What is wrong with the state that a step returned, or ''."""
  for field in ("clients", "local", "server"):
    old, new = getattr(before, field), getattr(after, field)
    if jax.tree.structure(old) != jax.tree.structure(new):
      return f"a state whose {field} has the structure of the one that it received"
    for (path, was), x in zip(jax.tree.leaves_with_path(old), jax.tree.leaves(new), strict=True):
      shape, dtype = jnp.shape(x), jnp.result_type(x)
      if (was.shape, was.dtype) != (shape, dtype):
        where = f"{field}{jax.tree_util.keystr(path)}"
        return f"{where} as {was.dtype}{list(was.shape)}, not as {dtype}{list(shape)}"
  return ""


def _other_aux(phase, aux, sizes):
  """What is wrong with the aux of a step that takes a batch, or ''."""
  if phase.feed.server:
    return "" if isinstance(aux, dict) else f"a dict of losses [R] as aux, not {_kind(aux)}"
  if not isinstance(aux, tuple) or len(aux) != len(sizes):
    return f"a dict of losses for every cohort, {len(sizes)} in a tuple, not {_kind(aux)}"
  for size, losses in zip(sizes, aux, strict=True):
    for key, x in losses.items():
      if jnp.shape(x) != (size,):
        return f"one number per client, [{size}], as aux {key!r}, not {list(jnp.shape(x))}"
  return ""


def check_plan(name: str, visits: Sequence[schedule.Visit]) -> None:
  """Checks that each phase's `lr` returns a number, and its `bytes_sent` bytes by kind."""
  total = schedule.totals(visits)
  for visit in schedule.first_visits(visits):
    phase, pos = visit.phase, schedule.position(visit, 0, total[visit.number])
    rate = phase.lr(pos) if phase.lr else 0.0
    sent = phase.bytes_sent(pos)
    if not isinstance(rate, numbers.Real):
      raise ConfigError(
        KEY, name, f"phase {phase.name!r}: its lr returns {_kind(rate)}, not a float"
      )
    if not isinstance(sent, dict) or not all(
      isinstance(n, numbers.Integral) for n in sent.values()
    ):
      hint = f"its bytes_sent returns {sent!r}, not bytes by kind, such as {{'weights': 1024}}"
      raise ConfigError(KEY, name, f"phase {phase.name!r}: {hint}")


def _kind(value: PyTree) -> str:
  """Describes a value in a few words."""
  if isinstance(value, tuple | list):
    return f"a {type(value).__name__} of {len(value)}"
  return "None" if value is None else f"a {type(value).__name__}"
