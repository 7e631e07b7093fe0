"""What clients tell each other about a public batch: probabilities, whole or the k largest.

The k largest are sent as they are, so that a receiver can compare their confidence with its own;
it renormalises what it learns from.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from kdjax.core.arrays import Array


class Dense(NamedTuple):
  """All class probabilities."""

  p: Any  # f32[..., C]


class TopK(NamedTuple):
  """The k largest class probabilities and where they stand."""

  p: Any  # f32[..., k]
  index: Any  # i32[..., k]


def encode(p: Float[Array, "... C"], top_k: int) -> Dense | TopK:
  """The message for probabilities f32[..., C]; `top_k` 0 sends them all."""
  if not top_k:
    return Dense(p)
  value, index = jax.lax.top_k(p, top_k)
  return TopK(value, index.astype(jnp.int32))


def decode(message: Dense | TopK, C: int) -> Float[Array, "... {C}"]:
  """Probabilities f32[..., C]; classes that were not sent get 0."""
  if isinstance(message, Dense):
    return message.p
  one_hot = jax.nn.one_hot(message.index, C, dtype=message.p.dtype)
  return jnp.einsum("...k,...kc->...c", message.p, one_hot)
