"""Wrong labels for experiments with clients whose data is corrupted.

`permuted` draws again in every batch, so that only the frequencies of labels can be learned. Under
`relabelled` an example keeps its wrong label, which can be memorised.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int, Key

from kdjax.core.arrays import Array


def permuted(
  key: jax.Array, p: Float[Array, ""] | float, label: Int[Array, " B"], mask: Float[Array, " B"]
) -> Int[Array, " B"]:
  """One client's labels, permuted with probability p among all unmasked examples of the batch.

  Args:
    key: the client's key, equal on every shard of the `data` axis.
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
  """One holder's labels, each replaced with probability p; an example's label is always the same.

  Args:
    key: the holder's key.
    p: f32[].
    label: [B], this device's share.
    row: [B], the examples' places in the holder's list.
    counts: [C], the holder's examples of each class; wrong labels are drawn with these frequencies.

  Returns:
    i32[B].
  """

  def draw_label(row):
    coin, draw = jax.random.split(jax.random.fold_in(key, row))
    return jax.random.uniform(coin) < p, jax.random.categorical(draw, jnp.log(counts))

  chosen, wrong = jax.vmap(draw_label)(row)
  return jnp.where(chosen, wrong.astype(label.dtype), label)
