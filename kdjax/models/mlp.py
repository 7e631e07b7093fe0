"""A multi-layer perceptron: the model of quick runs and of exact tests."""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Float

from kdjax.core.arrays import Array
from kdjax.models.heads import Heads
from kdjax.models.layers import norm, wide_dtype
from kdjax.types import ModelOut


class Model(nn.Module):
  """Dense-norm-activation per entry of `hidden`; the last one's output is the embedding.

  Features: 'layer1', 'layer2', ..., in the compute dtype.
  """

  classes: int
  heads: int
  norm: str
  dtype: str
  project: int
  hidden: tuple[int, ...]
  activation: str
  axes: tuple = ("data",)

  tables = True  # it also reads rows of features
  choices = {"activation": ("tanh", "relu")}

  @nn.compact
  def __call__(
    self, images: Float[Array, "B ..."], train: bool, mask: Float[Array, " B"] | None = None
  ) -> ModelOut:
    """images f32[B, h, w, c] or rows f32[B, features], mask f32[B] or None -> ModelOut."""
    activation, gain = {"tanh": (nn.tanh, 1.0), "relu": (nn.relu, 2.0)}[self.activation]
    dense: dict[str, Any] = dict(
      use_bias=self.norm == "none",
      dtype=jnp.dtype(self.dtype),
      param_dtype=wide_dtype(self.dtype),
      kernel_init=nn.initializers.variance_scaling(gain, "fan_in", "normal"),
    )
    x, features = images.reshape(images.shape[0], -1), {}
    for i, width in enumerate(self.hidden, 1):
      x = nn.Dense(width, **dense)(x)
      x = activation(norm(self.norm, self.dtype, self.axes)(x, train, mask))
      features[f"layer{i}"] = x
    heads = Heads(self.classes, self.heads, self.dtype, self.project, name="heads")
    return ModelOut(*heads(x), features)
