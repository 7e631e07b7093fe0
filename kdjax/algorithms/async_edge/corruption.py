"""Labels that are wrong on purpose: experiments with clients whose data is corrupted."""

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from kdjax.core.arrays import Array


def permuted(
  key: jax.Array, p: Float[Array, ""] | float, label: Int[Array, " B"], mask: Float[Array, " B"]
) -> Int[Array, " B"]:
  """One client's labels, with probability p permuted among all unmasked examples of the batch.

  Args:
    key: the client's, equal on every shard of the `data` axis.
    p: f32[].
    label, mask: [B], this device's share; in the whole batch, padding comes last.

  Returns:
    i32[B].
  """
  labels, masks = (jax.lax.all_gather(x, "data", tiled=True) for x in (label, mask))
  coin, order = jax.random.split(key)
  place = jax.random.uniform(order, labels.shape)
  place = jnp.where(masks > 0, place, 1 + jnp.arange(len(labels)))  # padding stays where it is
  chosen = jnp.where(jax.random.uniform(coin) < p, labels[jnp.argsort(place)], labels)
  return jax.lax.dynamic_slice_in_dim(chosen, jax.lax.axis_index("data") * len(label), len(label))
