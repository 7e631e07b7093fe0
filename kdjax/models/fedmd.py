"""The ten convolutional networks of FedMD, as its published code builds them.

Li & Wang, "FedMD: Heterogenous Federated Learning via Model Distillation", 2019,
https://arxiv.org/abs/1910.03581.

Departure: convolutions have no bias, as BatchNorm would cancel it.
"""

from flax import linen as nn
from jaxtyping import Float

from kdjax.core.arrays import Array
from kdjax.models.heads import Heads
from kdjax.models.layers import ConvNorm, Dropout, avg_pool
from kdjax.types import ConfigError, ModelOut

ARCHITECTURES = (  # (filters, dropout) of the ten parties
  ((128, 256), 0.2),
  ((128, 384), 0.2),
  ((128, 512), 0.2),
  ((256, 256), 0.3),
  ((256, 512), 0.4),
  ((64, 128, 256), 0.2),
  ((64, 128, 192), 0.2),
  ((128, 192, 256), 0.2),
  ((128, 128, 128), 0.3),
  ((128, 128, 192), 0.3),
)


class Model(nn.Module):
  """Two or three convolutional layers, and a classifier without bias on the flattened last one.

  Features: 'layer1', 'layer2'[, 'layer3'], in the compute dtype. Raises ConfigError for another
  number of layers.
  """

  classes: int
  heads: int
  norm: str
  dtype: str
  project: int
  filters: tuple[int, ...]
  dropout: float
  axes: tuple = ("data",)
  conv: str = "direct"

  @nn.compact
  def __call__(
    self, images: Float[Array, "B h w c"], train: bool, mask: Float[Array, " B"] | None = None
  ) -> ModelOut:
    """images f32[B, h, w, c], mask f32[B] or None -> ModelOut."""
    if len(self.filters) not in (2, 3):
      raise ConfigError("filters", self.filters, "two or three widths")
    deep = len(self.filters) == 3

    def layer(x, i, kernel, stride, padding):
      shape = (self.filters[i], kernel, stride, padding)
      x = ConvNorm(*shape, self.norm, self.dtype, self.axes, self.conv)(x, train, mask)
      return Dropout(self.dropout)(nn.relu(x), train)

    x = avg_pool(layer(images, 0, 3, 1, "same"), 2, 1, "same")
    features = {"layer1": x}
    x = layer(x, 1, 2 if deep else 3, 2, "valid")
    if deep:
      x = avg_pool(x, 2, 2, "valid")
    features["layer2"] = x
    if deep:
      x = features["layer3"] = layer(x, 2, 3, 2, "valid")
    x = x.reshape(x.shape[0], -1)
    heads = Heads(self.classes, self.heads, self.dtype, self.project, use_bias=False, name="heads")
    return ModelOut(*heads(x), features)
