"""A small plain convolutional network."""

from flax import linen as nn
from jaxtyping import Float

from kdjax.core.arrays import Array
from kdjax.models.heads import Heads
from kdjax.models.layers import ConvNorm, wide_dtype
from kdjax.types import ModelOut


def classify(
  model: nn.Module,
  x: Float[Array, "B h w c"],
  train: bool,
  mask: Float[Array, " B"] | None,
  stride: int = 1,
) -> ModelOut:
  """The layers, the mean and the heads, inside the `__call__` of a model that has `widths`.

  Args:
    model: the module that is called.
    x: [B, h, w, c].
    train, mask: the model's arguments.
    stride: of the first layer.
  """
  features = {}
  for i, width in enumerate(model.widths, 1):
    step = stride if i == 1 else 2
    layer = ConvNorm(width, 3, step, "same", model.norm, model.dtype, model.axes, model.conv)
    x = features[f"layer{i}"] = nn.relu(layer(x, train, mask))
  x = x.mean((1, 2), dtype=wide_dtype(model.dtype))
  heads = Heads(model.classes, model.heads, model.dtype, model.project, name="heads")
  return ModelOut(*heads(x), features)


class Model(nn.Module):
  """3x3 convolution, norm, ReLU per entry of `widths`, with stride 2 from the second on; the mean.

  `stride` is that of the first layer. With stride 2 the network costs a quarter, and works on
  images at half their size. Features: 'layer1', 'layer2', ..., in the compute dtype.
  """

  classes: int
  heads: int
  norm: str
  dtype: str
  project: int
  widths: tuple[int, ...]
  stride: int = 1
  axes: tuple = ("data",)
  conv: str = "direct"

  @nn.compact
  def __call__(
    self, images: Float[Array, "B h w c"], train: bool, mask: Float[Array, " B"] | None = None
  ) -> ModelOut:
    """images f32[B, h, w, c], mask f32[B] or None -> ModelOut."""
    return classify(self, images, train, mask, self.stride)
