"""The losses of a target of pairwise transfer, and their variables: four variants (method.py)."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Float

from kdjax.algorithms.pairwise import layers as interest
from kdjax.algorithms.pairwise import transfer
from kdjax.algorithms.pairwise.hyper import Hyper
from kdjax.core import copies
from kdjax.core.arrays import Array
from kdjax.core.env import Env
from kdjax.core.health import finite_rows
from kdjax.types import Examples, PyTree


class TransferPass(NamedTuple):
  """One client's pass with W* on a batch, and the data with which it is compared."""

  model: nn.Module
  model_state: PyTree
  half: Examples
  params: PyTree  # with W_b
  new: PyTree  # with W*
  logits: jax.Array  # f32[B, C], with W*
  sources: copies.Sources
  source_logits: jax.Array  # f32[S, B, C]


class TransferObjective(NamedTuple):
  """The loss of a target, and its variables."""

  weigh: Callable  # one of `eq5` with its weights, `eq1`, `algorithm1`, `as_coded`
  gap: Callable  # TransferPass -> f32[B], the distance of the target from its sources
  pipeline: transfer.Pipeline  # the maps, which rewrite the layers
  weights: bool  # whether a target also trains its own weights


def make_objective(
  env: Env, hyper: Hyper, S: int, tx: optax.GradientTransformation
) -> TransferObjective:
  """The objective of `hyper.variant`.

  Args:
    env: Env.
    hyper: Hyper.
    S: the largest number of sources of a client.
    tx: the maps' optimiser.
  """
  gap = forward_kl if hyper.divergence == "source" else reverse_kl
  if hyper.variant == "as_coded":
    return TransferObjective(as_coded, gap, transfer.fixed(env, hyper.layers, S), False)
  learned = transfer.learned(env, hyper.layers, start=hyper.start, noise=hyper.noise, tx=tx)
  if hyper.variant == "algorithm1":
    return TransferObjective(algorithm1, gap, learned, True)
  if hyper.variant == "eq1":
    return TransferObjective(eq1, functools.partial(distance, env, hyper.layers[0]), learned, False)
  return TransferObjective(functools.partial(eq5, hyper.alpha, hyper.beta), gap, learned, False)


def eq5(alpha: float, beta: float, run: Callable, trained: tuple, target: jax.Array) -> tuple:
  """Eq. 5 for a target, the cross entropy for other clients.

  Args:
    alpha, beta: weights.
    run: (params, maps) -> (cross entropy, gap, model_state) with W*; without maps, with W_b.
    trained: (params, maps).
    target: bool[], whether the client has sources.

  Returns:
    (the loss, cross entropy, gap, model_state).
  """
  ce, gap, statistics = run(*trained)
  return jnp.where(target, (alpha * ce + beta * gap) / 2, ce), ce, gap, statistics


def eq1(run: Callable, trained: tuple, target: jax.Array) -> tuple:
  """Eq. 1 for a target: `distance` alone; arguments as for `eq5`."""
  ce, gap, statistics = run(*trained)
  return jnp.where(target, gap, ce), ce, gap, statistics


def algorithm1(run: Callable, trained: tuple, target: jax.Array) -> tuple:
  """Cross entropy with W_b for the weights, gap with W* for the maps; arguments as for `eq5`."""
  params, maps = trained
  ce, _, statistics = run(params, None)
  _, gap, _ = run(jax.lax.stop_gradient(params), maps)
  return ce + gap, ce, gap, statistics


def as_coded(run: Callable, trained: tuple, target: jax.Array) -> tuple:
  """The loss that the authors' code computes; nothing is trained by it. Arguments as for `eq5`.

  0.7 CE + 0.3 (KL_A + KL_B), where both KLs are 0: their target is a log-probability, and PyTorch
  sets terms with a target below 0 to 0.
  """
  ce, gap, statistics = run(*trained)
  return jnp.where(target, 0.7 * ce, ce), ce, gap, statistics


def forward_kl(result: TransferPass) -> Float[Array, " B"]:
  """Mean over sources of KL(P_a || Q), Eq. 4; f32[B]."""
  return copies.divergence(result.source_logits, result.sources.peer, result.logits)


def reverse_kl(result: TransferPass) -> Float[Array, " B"]:
  """Mean over sources of KL(Q || P_a); f32[B]. Logits that are not finite are left out."""
  valid = (result.sources.peer >= 0)[:, None] & finite_rows(result.source_logits)
  log_q = jax.nn.log_softmax(result.logits)
  log_p = jax.nn.log_softmax(jnp.where(valid[..., None], result.source_logits, 0))
  kl = jnp.sum(jnp.exp(log_q) * (log_q - log_p), axis=-1)
  return copies.mean_over_sources(kl, valid)


def distance(env: Env, layer: interest.Layer, result: TransferPass) -> Float[Array, " B"]:
  """Eq. 1 as a mean over outputs and sources: |W* X - W_a X| + |W* X - W_b X|; f32[B]."""
  path = interest.path(result.params, layer)

  def output(params):
    """The layer's output f32[B, ..., o] with these weights."""
    _, changed = result.model.apply(
      {"params": params, **result.model_state},
      result.half.image,
      train=True,
      mask=result.half.mask,
      mutable=[*result.model_state, "intermediates"],
      capture_intermediates=lambda module, _: "/".join(module.path) == path,
      rngs={"dropout": result.half.key},
    )
    (out,) = jax.tree.leaves(changed["intermediates"])
    return out

  def absolute_error(a, b):
    return jnp.mean(jnp.abs(a - b), axis=tuple(range(1, a.ndim)))

  new = output(result.new)
  valid = result.sources.peer >= 0
  kernels = transfer.source_kernels(env, (layer,), result.sources)[interest.key(layer)]
  theirs = [output(interest.replace(result.params, {path: kernel})) for kernel in kernels]
  from_sources = jnp.stack([absolute_error(new, out) for out in theirs]) * valid[:, None]
  from_own = absolute_error(new, output(result.params))
  return from_sources.sum(0) / jnp.maximum(valid.sum(), 1) + from_own
