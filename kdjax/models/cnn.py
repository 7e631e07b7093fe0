"""A small plain convolutional network."""

from flax import linen as nn

from kdjax.models.heads import Heads
from kdjax.models.layers import ConvNorm, wide_dtype
from kdjax.types import ModelOut


class Model(nn.Module):
  """3x3 convolution, norm, ReLU per entry of `widths`, at stride 2 from the second on; the mean.

  Features: 'layer1', 'layer2', ..., in the compute dtype.
  """

  classes: int
  heads: int
  norm: str
  dtype: str
  project: int
  widths: tuple[int, ...]
  axes: tuple = ("data",)

  @nn.compact
  def __call__(self, images, train, mask=None):
    """images f32[B, h, w, c], mask f32[B] or None -> ModelOut."""
    x, features = images, {}
    for i, width in enumerate(self.widths, 1):
      layer = ConvNorm(width, 3, 1 if i == 1 else 2, "same", self.norm, self.dtype, self.axes)
      x = features[f"layer{i}"] = nn.relu(layer(x, train, mask))
    x = x.mean((1, 2), dtype=wide_dtype(self.dtype))
    heads = Heads(self.classes, self.heads, self.dtype, self.project, name="heads")
    return ModelOut(*heads(x), features)
