"""Labels that are wrong on purpose: experiments with clients whose data is corrupted.

`permuted` draws anew in every batch, so that there is nothing to be learned but the frequencies of
labels; under `relabelled` an example keeps its wrong label, which can be memorised.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int, Key

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


def relabelled(
  key: Key[Array, ""],
  p: Float[Array, ""] | float,
  label: Int[Array, " B"],
  row: Int[Array, " B"],
  counts: Int[Array, " C"],
) -> Int[Array, " B"]:
  """One holder's labels, with probability p an example's replaced, the same whenever it is seen.

  Args:
    key: the holder's.
    p: f32[].
    label: [B], this device's share.
    row: [B], the examples' places in the holder's list.
    counts: [C], its examples of each class: wrong labels are drawn by their frequencies.

  Returns:
    i32[B].
  """

  def one(row):
    coin, draw = jax.random.split(jax.random.fold_in(key, row))
    return jax.random.uniform(coin) < p, jax.random.categorical(draw, jnp.log(counts))

  chosen, wrong = jax.vmap(one)(row)
  return jnp.where(chosen, wrong.astype(label.dtype), label)
