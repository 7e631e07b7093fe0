"""Optimisers without a learning rate, and the schedules that supply it.

An update consists, in this order, of clipping by the client's global norm, weight decay on kernels
only, dropping gradients that are not finite, and momentum or Adam. The training step multiplies it
by the position's learning rate.
"""

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from kdjax.core import health
from kdjax.plugins import wrong_type
from kdjax.types import ConfigError

Rate = Callable[[int, int], float]  # (count, total) -> the learning rate


def _kernels(params):
  """True for the weights that decay: those named `kernel`, not biases or normalisation."""
  return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", params)


def only_finite() -> optax.GradientTransformationExtraArgs:
  """Passes updates on, with zeros for entries out of bounds and for a whole skipped step.

  Its update takes `taken`, bool[], see `health.safe_gradients`. It comes after clipping, which
  reads all gradients before it changes one, so that nothing is written to memory between the two.
  If a gradient is not finite, neither is the norm of all.
  """

  def update(updates, state, params=None, *, taken=True, **others):
    return health.safe_gradients(jnp.asarray(taken), updates), state

  return optax.GradientTransformationExtraArgs(optax.init_empty_state, update)


def _before(clip, weight_decay):
  steps = [optax.clip_by_global_norm(clip)] if clip else []
  decay = [optax.add_decayed_weights(weight_decay, _kernels)] if weight_decay else []
  return [*steps, *decay, only_finite()]


def sgd(
  *, momentum: float, nesterov: bool, weight_decay: float, clip: float
) -> optax.GradientTransformation:
  """SGD with momentum; without momentum it keeps no state. `clip` 0 clips nothing."""
  velocity = optax.trace(momentum, nesterov) if momentum else optax.identity()
  return optax.chain(*_before(clip, weight_decay), velocity)


def adam(
  *, b1: float, b2: float, eps: float, amsgrad: bool, weight_decay: float, clip: float
) -> optax.GradientTransformation:
  """Adam; `amsgrad` selects optax's variant, which maximises bias-corrected second moments."""
  scale = (optax.scale_by_amsgrad if amsgrad else optax.scale_by_adam)(b1, b2, eps)
  return optax.chain(*_before(clip, weight_decay), scale)


OPTIMISERS: dict[str, Callable] = {"sgd": sgd, "adam": adam}
NOT_NEGATIVE = ("lr", "warmup", "eps", "weight_decay", "clip")
BELOW_1 = ("momentum", "b1", "b2")
MOST_LR = 100


def constant(lr: float, warmup: int) -> Rate:
  """The schedule that is `lr` throughout, after `warmup` batches of linear rise."""
  return lambda count, total: lr * _rise(count, warmup)


def cosine(lr: float, warmup: int) -> Rate:
  """The schedule from `lr` to 0 along half a cosine, after `warmup` batches of linear rise."""

  def at(count, total):
    progress = (count - warmup) / max(total - warmup, 1)
    fall = 0.5 * (1 + math.cos(math.pi * min(max(progress, 0.0), 1.0)))
    return lr * _rise(count, warmup) * fall

  return at


def multistep(lr: float, warmup: int, *, milestones: Sequence[float], factor: float) -> Rate:
  """The schedule that multiplies `lr` by `factor` at every milestone, after a linear rise.

  Args:
    lr, warmup: as in `constant`.
    milestones: ascending fractions of the run's batches, between 0 and 1.
    factor: above 0.

  Raises:
    ConfigError: for invalid milestones or an invalid factor.
  """
  ascending = sorted(set(milestones)) == list(milestones)
  if not ascending or not all(0 < m < 1 for m in milestones):
    raise ConfigError("optim.milestones", milestones, "ascending fractions between 0 and 1")
  if not factor > 0:
    raise ConfigError("optim.factor", factor, "must be above 0")

  def at(count, total):
    passed = sum(count >= round(m * total) for m in milestones)
    return lr * _rise(count, warmup) * factor**passed

  return at


def _rise(count, warmup):
  return min((count + 1) / warmup, 1.0) if warmup else 1.0


SCHEDULES: dict[str, Callable] = {"constant": constant, "cosine": cosine, "multistep": multistep}


def make(**arguments: Any) -> tuple[optax.GradientTransformation, Rate]:
  """Makes the optimiser and schedule of `config.optim`.

  Args:
    **arguments: `name`, an entry of `OPTIMISERS`; `lr`, the highest learning rate; `schedule`, an
      entry of `SCHEDULES`; `warmup`, in batches; and the keyword-only arguments of both entries.

  Returns:
    (optax.GradientTransformation without a learning rate, (count, total) -> learning rate).

  Raises:
    ConfigError: for a name that does not exist, or an argument that is unknown, missing or out of
      range.
  """
  for key in ("name", "lr", "schedule", "warmup"):
    if key not in arguments:
      raise ConfigError(f"optim.{key}", None, "is missing")
  name, lr, schedule, warmup = map(arguments.pop, ("name", "lr", "schedule", "warmup"))
  if not isinstance(name, str) or name not in OPTIMISERS:
    raise ConfigError("optim.name", name, "must be one of " + ", ".join(OPTIMISERS))
  if not isinstance(schedule, str) or schedule not in SCHEDULES:
    raise ConfigError("optim.schedule", schedule, "must be one of " + ", ".join(SCHEDULES))
  of_schedule = _keywords(SCHEDULES[schedule])
  required = {**_keywords(OPTIMISERS[name]), **of_schedule}
  kinds = {"lr": float, "warmup": int, **required}
  for key in sorted(required.keys() ^ set(arguments)):
    state = "is unknown" if key in arguments else "is missing"
    hint = f"{name!r} with {schedule!r} takes {', '.join(sorted(required))}"
    raise ConfigError(f"optim.{key}", arguments.get(key), f"{state}: {hint}")
  for key, value in dict(arguments, lr=lr, warmup=warmup).items():
    wrong = wrong_type(value, kinds[key])
    if wrong:
      raise ConfigError(f"optim.{key}", value, wrong)
    if key in NOT_NEGATIVE and not value >= 0:
      raise ConfigError(f"optim.{key}", value, "must not be negative")
    if key == "eps" and value == 0:
      raise ConfigError("optim.eps", value, "must be above 0: a gradient may be exactly 0")
    if key in BELOW_1 and not 0 <= value < 1:
      raise ConfigError(f"optim.{key}", value, "must be at least 0 and below 1")
  if lr > MOST_LR:
    raise ConfigError("optim.lr", lr, f"at most {MOST_LR}: no network learns at such a rate")
  rate = SCHEDULES[schedule](lr, warmup, **{key: arguments.pop(key) for key in of_schedule})
  return OPTIMISERS[name](**arguments), rate


def make_under(key: str, arguments: dict[str, Any]) -> tuple[optax.GradientTransformation, Rate]:
  """`make` with the arguments at another key of a config, which its errors then name."""
  try:
    return make(**arguments)
  except ConfigError as error:
    full_key = key + error.key.removeprefix("optim")
    raise ConfigError(full_key, error.value, error.hint) from None


def _keywords(fn):
  """A function's keyword-only arguments, {name: annotation}."""
  parameters = inspect.signature(fn).parameters.values()
  return {p.name: p.annotation for p in parameters if p.kind is p.KEYWORD_ONLY}
