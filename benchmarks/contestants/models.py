"""The network of FedJAX's EMNIST and pfl's CIFAR-10 benchmarks."""

import jax.numpy as jnp
from flax import linen as nn

from kdjax.models.heads import Heads
from kdjax.models.layers import ConvNorm, Dropout, wide_dtype
from kdjax.types import ModelOut


class ConvNet(nn.Module):
  """Two 3x3 convolutions (32, 64; valid), 2x2 max-pool, dropout, 128 units, dropout, the heads."""

  classes: int
  heads: int
  norm: str
  dtype: str
  project: int
  axes: tuple = ("data",)
  conv: str = "direct"

  @nn.compact
  def __call__(self, images, train, mask=None):
    """images f32[B, h, w, c], mask f32[B] or None -> ModelOut."""
    x, wide = images, wide_dtype(self.dtype)
    for width in (32, 64):
      layer = ConvNorm(width, 3, 1, "valid", self.norm, self.dtype, self.axes, self.conv)
      x = nn.relu(layer(x, train, mask))
    B, h, w, c = x.shape
    x = x.reshape(B, h // 2, 2, w // 2, 2, c).max((2, 4))
    x = Dropout(0.25)(x, train).reshape(B, -1)
    x = nn.relu(nn.Dense(128, dtype=jnp.dtype(self.dtype), param_dtype=wide)(x))
    x = Dropout(0.5)(x, train)
    heads = Heads(self.classes, self.heads, self.dtype, self.project, name="heads")
    return ModelOut(*heads(x), {})
