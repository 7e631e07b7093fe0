"""Messages about a public batch: class probabilities, all of them or the k largest.

The k largest are sent without renormalisation, so that a receiver can compare their confidence with
its own. The receiver renormalises its targets.
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
  """The k largest class probabilities and their classes."""

  p: Any  # f32[..., k]
  index: Any  # i32[..., k]


def encode(p: Float[Array, "... C"], top_k: int) -> Dense | TopK:
  """The message for probabilities f32[..., C]; with `top_k` 0 it holds all of them."""
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
