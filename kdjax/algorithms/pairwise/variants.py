"""What a target of pairwise transfer minimises, and over what: four variants (method.py)."""

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
  """One client's pass with W* on a batch, and what it is held against."""

  model: nn.Module
  model_state: PyTree
  half: Examples
  params: PyTree  # with W_b
  new: PyTree  # with W*
  logits: jax.Array  # f32[B, C], with W*
  sources: copies.Sources
  said: jax.Array  # f32[S, B, C], the sources' logits


class TransferObjective(NamedTuple):
  """What a target minimises, and over what."""

  weigh: Callable  # one of `eq5` with its weights, `eq1`, `algorithm1`, `as_coded`
  gap: Callable  # TransferPass -> f32[B], how far the target is from its sources
  pipeline: transfer.Pipeline  # how maps rewrite the layers
  weights: bool  # whether a target trains its own weights too


def make_objective(
  env: Env, hyper: Hyper, S: int, tx: optax.GradientTransformation
) -> TransferObjective:
  """The objective of a variant; S: the most sources of a client; tx: the maps' optimiser."""
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
  """Eq. 5 for a target, the cross entropy for another client.

  Args:
    alpha, beta: weights.
    run: (params, maps) -> (cross entropy, gap, model_state) with W*; without maps, with W_b.
    trained: (params, maps).
    target: bool[], whether the client has sources.

  Returns:
    (the loss, cross entropy, gap, model_state).
  """
  own, other, statistics = run(*trained)
  return jnp.where(target, (alpha * own + beta * other) / 2, own), own, other, statistics


def eq1(run: Callable, trained: tuple, target: jax.Array) -> tuple:
  """Eq. 1 for a target: `distance` alone; arguments as `eq5`'s."""
  own, other, statistics = run(*trained)
  return jnp.where(target, other, own), own, other, statistics


def algorithm1(run: Callable, trained: tuple, target: jax.Array) -> tuple:
  """Cross entropy with W_b for the weights, gap with W* for the maps; arguments as `eq5`'s."""
  params, maps = trained
  own, _, statistics = run(params, None)
  _, other, _ = run(jax.lax.stop_gradient(params), maps)
  return own + other, own, other, statistics


def as_coded(run: Callable, trained: tuple, target: jax.Array) -> tuple:
  """The number that the authors' code computes, from which nothing learns; arguments as `eq5`'s.

  0.7 CE + 0.3 (KL_A + KL_B), where both KLs are 0: their target is a log-probability, and PyTorch
  counts a target below 0 as none.
  """
  own, other, statistics = run(*trained)
  return jnp.where(target, 0.7 * own, own), own, other, statistics


def forward_kl(seen: TransferPass) -> Float[Array, " B"]:
  """Mean over sources of KL(P_a || Q), Eq. 4; f32[B]."""
  return copies.divergence(seen.said, seen.sources.peer, seen.logits)


def reverse_kl(seen: TransferPass) -> Float[Array, " B"]:
  """Mean over sources of KL(Q || P_a); f32[B]. Numbers that are not finite are left out."""
  valid = (seen.sources.peer >= 0)[:, None] & finite_rows(seen.said)
  log_q = jax.nn.log_softmax(seen.logits)
  log_p = jax.nn.log_softmax(jnp.where(valid[..., None], seen.said, 0))
  kl = jnp.sum(jnp.exp(log_q) * (log_q - log_p), axis=-1)
  return copies.mean_over_sources(kl, valid)


def distance(env: Env, layer: interest.Layer, seen: TransferPass) -> Float[Array, " B"]:
  """Eq. 1 as a mean over outputs and sources: |W* X - W_a X| + |W* X - W_b X|; f32[B]."""
  path = interest.path(seen.params, layer)

  def output(params):
    """What the layer puts out, f32[B, ..., o], with these weights."""
    _, changed = seen.model.apply(
      {"params": params, **seen.model_state},
      seen.half.image,
      train=True,
      mask=seen.half.mask,
      mutable=[*seen.model_state, "intermediates"],
      capture_intermediates=lambda module, _: "/".join(module.path) == path,
      rngs={"dropout": seen.half.key},
    )
    (out,) = jax.tree.leaves(changed["intermediates"])
    return out

  def apart(a, b):
    return jnp.mean(jnp.abs(a - b), axis=tuple(range(1, a.ndim)))

  new, valid = output(seen.new), seen.sources.peer >= 0
  found = transfer.found_kernels(env, (layer,), seen.sources)[interest.key(layer)]
  theirs = [output(interest.replace(seen.params, {path: kernel})) for kernel in found]
  gaps = jnp.stack([apart(new, out) for out in theirs]) * valid[:, None]
  return gaps.sum(0) / jnp.maximum(valid.sum(), 1) + apart(new, output(seen.params))
