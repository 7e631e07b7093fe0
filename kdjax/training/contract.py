"""Checks that a method keeps the contract (types.py); the errors name what is wrong.

A check that is made while a program is traced costs nothing when the program runs. Every phase of a
user's own method is traced before any training.
"""

import json
import numbers
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from kdjax.core import files
from kdjax.training import schedule
from kdjax.types import Algorithm, ConfigError, Feed, Phase, PyTree, TrainState

KEY = "algorithm"


def check_heads(name: str, heads: Any) -> None:
  """Checks that `Method.heads` returned names.

  Raises:
    ConfigError: otherwise, as all functions of this module do; its value is the method's name.
  """
  if not isinstance(heads, tuple | list) or not all(isinstance(head, str) for head in heads):
    raise ConfigError(KEY, name, f"its heads returns {heads!r}, not names in a tuple: ('main',)")


def check(name: str, made: Any) -> None:
  """Checks that a method's `make` returned an Algorithm.

  Raises:
    ConfigError: otherwise.
  """
  if not isinstance(made, Algorithm):
    raise ConfigError(KEY, name, f"its make returned {_kind(made)}, not a kdjax.types.Algorithm")
  for part in ("init", "predict", "bytes_at_start", "facts"):
    if not callable(getattr(made, part)):
      raise ConfigError(KEY, name, f"its {part} is {_kind(getattr(made, part))}, not a function")
  for part in ("prologue", "cycle"):
    phases = getattr(made, part)
    if not isinstance(phases, tuple) or not all(isinstance(p, Phase) for p in phases):
      raise ConfigError(KEY, name, f"its {part} is {_kind(phases)}, not a tuple of Phase")
  phases = made.prologue + made.cycle
  for phase in phases:
    hint = _wrong_phase(phase)
    if hint:
      raise ConfigError(KEY, name, f"phase {phase.name!r}: {hint}")
  names = [phase.name for phase in phases]
  twice = sorted({x for x in names if names.count(x) > 1})
  if twice:
    hint = f"two phases are called {twice[0]!r}, but a phase's name keys its data: rename one"
    raise ConfigError(KEY, name, hint)


def _wrong_phase(phase):
  """What is wrong with the fields of a phase, or ''."""
  for field in ("step", "args", "bytes_sent"):
    if not callable(getattr(phase, field)):
      return f"its {field} is {_kind(getattr(phase, field))}, not a function"
  if phase.lr is not None and not callable(phase.lr):
    return f"its lr is {_kind(phase.lr)}, not a function such as lambda pos: 0.1"
  feed, steps = phase.feed, phase.steps
  if steps is not None and not callable(steps) and not isinstance(steps, numbers.Integral):
    return f"its steps is {_kind(steps)}, not a whole number, a function of the round or None"
  if feed is None:
    return "its steps is None, whole epochs, but it has no feed" if steps is None else ""
  if not isinstance(feed, Feed):
    return f"its feed is {_kind(feed)}, not a kdjax.types.Feed or None"
  if feed.kind not in ("stream", "epoch"):
    return f"its feed's kind is {feed.kind!r}: must be 'stream' or 'epoch'"
  for field in ("private", "public"):
    size = getattr(feed, field)
    if not isinstance(size, numbers.Integral) or size < 0:
      return f"its feed's {field} is {size!r}: must be a number of examples"
  if not feed.private and not feed.public and not feed.server:
    return "its feed has no examples: feed=None is for a phase without a batch"
  return ""


def check_start(name: str, made: Any, sizes: Sequence[int]) -> None:
  """Checks that `Algorithm.init` returned (clients, local, server).

  Args:
    name: the method's name.
    made: what it returned.
    sizes: clients of every cohort on this device.
  """
  whole = isinstance(made, tuple) and len(made) == 3
  if not whole or not all(isinstance(x, tuple) and len(x) == len(sizes) for x in made[:2]):
    hint = "(clients, local, server), the first two tuples with an entry for every cohort"
    raise ConfigError(KEY, name, f"its init must return {hint}: it returned {_kind(made)}")
  for g, (size, local) in enumerate(zip(sizes, made[1], strict=True)):
    for path, x in jax.tree.leaves_with_path(local):
      if jnp.shape(x)[:1] != (size,):
        where = f"local[{g}]{jax.tree_util.keystr(path)}"
        hint = f"{where} with a row for every client, [{size}, ...], not {list(jnp.shape(x))}"
        raise ConfigError(KEY, name, f"its init must return {hint}")


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
  other = [losses for losses in aux if not isinstance(losses, dict)]
  if other:
    return f"a dict of losses for every cohort, {{}} where there are none, not {_kind(other[0])}"
  for size, losses in zip(sizes, aux, strict=True):
    for key, x in losses.items():
      if jnp.shape(x) != (size,):
        return f"one number per client, [{size}], as aux {key!r}, not {list(jnp.shape(x))}"
  return ""


def check_predict(
  name: str, made: Any, *, sizes: Sequence[int], replicas: int, examples: int, classes: int
) -> None:
  """Checks that `Algorithm.predict` returned logits by entry, of the contract's shapes.

  Args:
    name: the method's name.
    made: what it returned.
    sizes: clients of every cohort on this device.
    replicas, examples, classes: R, N and C of the logits.
  """
  if not isinstance(made, dict) or not made:
    hint = "{entry: logits}, such as {'': one array of logits for every cohort, in a tuple}"
    raise ConfigError(KEY, name, f"its predict must return {hint}: it returned {_kind(made)}")
  for entry, logits in made.items():
    if isinstance(logits, tuple) and len(logits) != len(sizes):
      hint = f"{len(sizes)} in a tuple, one for every cohort, not {_kind(logits)}"
      raise ConfigError(KEY, name, f"entry {entry!r} of its predict: {hint}")
    of_cohorts = isinstance(logits, tuple)
    arrays, firsts = (logits, sizes) if of_cohorts else ((logits,), (replicas,))
    for x, first in zip(arrays, firsts, strict=True):
      shape = jnp.shape(x)
      if len(shape) != 4 or shape[:2] != (first, examples) or shape[3] != classes:
        axes = "clients of a cohort" if of_cohorts else "replicas; of clients, a tuple over cohorts"
        hint = f"must be [{first}, {examples}, heads, {classes}], not {list(shape)} ({axes})"
        raise ConfigError(KEY, name, f"logits of entry {entry!r} of its predict {hint}")


def check_facts(name: str, made: Any) -> None:
  """Checks that `Algorithm.facts` returned keys that `summary.json` can hold."""
  if not isinstance(made, dict):
    raise ConfigError(KEY, name, f"its facts returns {_kind(made)}, not a dict")
  for key, value in made.items():
    try:
      json.dumps(files.plain(value))
    except TypeError as error:
      raise ConfigError(KEY, name, f"its facts {key!r} cannot be written: {error}") from None


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
