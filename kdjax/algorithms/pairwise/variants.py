"""What a target of pairwise transfer minimises, and over what: three variants (method.py)."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from kdjax.algorithms.pairwise import transfer
from kdjax.algorithms.pairwise.hyper import Hyper
from kdjax.core.env import Env


class Objective(NamedTuple):
  """What a target minimises, and over what."""

  weigh: Callable  # `eq5` with its weights, or `algorithm1`
  pipeline: transfer.Pipeline  # how maps rewrite the layers
  weights: bool  # whether a target trains its own weights too


def make_objective(
  env: Env, hyper: Hyper, shapes: dict, S: int, tx: optax.GradientTransformation
) -> Objective:
  """The objective of a variant; `shapes` of the layers, S sources, the maps' optax `tx`."""
  if hyper.variant == "as_coded":
    return Objective(functools.partial(eq5, 1.0, 1.0), transfer.fixed(env, shapes, S), True)
  learned = transfer.learned(env, shapes, S, noise=hyper.noise, tx=tx)
  if hyper.variant == "algorithm1":
    return Objective(algorithm1, learned, True)
  return Objective(functools.partial(eq5, hyper.alpha, hyper.beta), learned, False)


def eq5(alpha: float, beta: float, both: Callable, trained: tuple, target: jax.Array) -> tuple:
  """Eq. 5 for a target, the cross entropy for another client.

  Args:
    alpha, beta: weights.
    both: (params, maps) -> (cross entropy, divergence, model_state).
    trained: (params, maps).
    target: bool[], whether the client has sources.

  Returns:
    (the loss, cross entropy, divergence, model_state).
  """
  own, other, statistics = both(*trained)
  return jnp.where(target, (alpha * own + beta * other) / 2, own), own, other, statistics


def algorithm1(both: Callable, trained: tuple, target: jax.Array) -> tuple:
  """Cross entropy for the weights, divergence for the maps; arguments as `eq5`'s."""
  params, maps = trained
  own, _, statistics = both(params, jax.lax.stop_gradient(maps))
  _, other, _ = both(jax.lax.stop_gradient(params), maps)  # the same pass, compiled once
  return own + other, own, other, statistics
