"""Whether a method keeps the contract (types.py), in words that name what is wrong.

What is checked while a program is traced costs nothing when it runs; of a method of one's own every
phase is traced before any work is done.
"""

import numbers
from collections.abc import Sequence
from typing import Any

import jax

from kdjax.training import schedule
from kdjax.types import Algorithm, ConfigError, Phase, PyTree, TrainState

KEY = "algorithm"


def check(name: str, made: Any) -> None:
  """Refuses what a method's `make` returned where it is no Algorithm.

  Raises:
    ConfigError: as all functions here; the value is the method's name.
  """
  if not isinstance(made, Algorithm):
    raise ConfigError(KEY, name, f"its make returned {_kind(made)}, not a kdjax.types.Algorithm")
  for part in ("prologue", "cycle"):
    phases = getattr(made, part)
    if not isinstance(phases, tuple) or not all(isinstance(one, Phase) for one in phases):
      raise ConfigError(KEY, name, f"its {part} is {_kind(phases)}, not a tuple of Phase")


def check_start(name: str, made: Any, cohorts: int) -> None:
  """Refuses what `Algorithm.init` returned where it is not (clients, local, server)."""
  whole = isinstance(made, tuple) and len(made) == 3
  if not whole or not all(isinstance(x, tuple) and len(x) == cohorts for x in made[:2]):
    hint = "(clients, local, server), the first two tuples with an entry for every cohort"
    raise ConfigError(KEY, name, f"its init must return {hint}: it returned {_kind(made)}")


def check_step(
  name: str, phase: Phase, before: TrainState, made: Any, sizes: Sequence[int]
) -> None:
  """Refuses what a phase's step returned where it is not (state, aux) of the contract's shapes.

  Args:
    name: the method's.
    phase: whose step it is.
    before: the state that the step was given.
    made: what it returned.
    sizes: clients of every cohort on this device.
  """
  blame = lambda hint: ConfigError(KEY, name, f"phase {phase.name!r}: its step must return {hint}")
  if not isinstance(made, tuple) or len(made) != 2 or not isinstance(made[0], TrainState):
    raise blame(f"(TrainState, aux), not {_kind(made)}")
  new, aux = made
  for field in ("clients", "local", "server"):
    old, now = getattr(before, field), getattr(new, field)
    if _built(old) != _built(now):
      raise blame(f"a state whose {field} is built as that which it was given")
    pairs = zip(jax.tree.leaves_with_path(old), jax.tree.leaves(now), strict=True)
    for (path, was), x in pairs:
      if (was.shape, was.dtype) != (jax.numpy.shape(x), jax.numpy.result_type(x)):
        found = f"{jax.numpy.result_type(x)}{list(jax.numpy.shape(x))}"
        where = f"{field}{jax.tree_util.keystr(path)}"
        raise blame(f"{where} as {was.dtype}{list(was.shape)}, not as {found}")
  if phase.feed is None:
    return
  if phase.feed.server:
    if not isinstance(aux, dict):
      raise blame(f"a dict of losses [R] as aux, not {_kind(aux)}")
  elif not isinstance(aux, tuple) or len(aux) != len(sizes):
    raise blame(f"a dict of losses for every cohort, {len(sizes)} in a tuple, not {_kind(aux)}")
  else:
    for size, losses in zip(sizes, aux, strict=True):
      wrong = [k for k, x in losses.items() if jax.numpy.shape(x) != (size,)]
      if wrong:
        shape = list(jax.numpy.shape(losses[wrong[0]]))
        raise blame(f"one number a client, [{size}], as aux {wrong[0]!r}, not {shape}")


def check_plan(name: str, visits: Sequence[schedule.Visit]) -> None:
  """Refuses phases whose `lr` or `sent` returns something else than a number, or bytes by kind."""
  for visit in {v.number: v for v in reversed(visits)}.values():
    phase, pos = visit.phase, schedule.position(visit, 0, schedule.totals(visits)[visit.number])
    rate, sent = phase.lr(pos), phase.sent(pos)
    if not isinstance(rate, numbers.Real):
      raise ConfigError(KEY, name, f"phase {phase.name!r}: its lr returns {_kind(rate)}, no float")
    if not isinstance(sent, dict) or not all(
      isinstance(n, numbers.Integral) for n in sent.values()
    ):
      hint = f"its sent returns {sent!r}, not bytes by kind, such as {{'weights': 1024}}"
      raise ConfigError(KEY, name, f"phase {phase.name!r}: {hint}")


def _built(tree: PyTree) -> Any:
  return jax.tree.structure(tree)


def _kind(value: PyTree) -> str:
  """A value in a few words."""
  if isinstance(value, tuple | list):
    return f"a {type(value).__name__} of {len(value)}"
  return "None" if value is None else f"a {type(value).__name__}"
