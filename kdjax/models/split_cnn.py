"""Small plain networks in two parts: the quick counterpart of gkt_resnet.py.

Edge networks and full networks consist of an extractor and a classifier, which is small at the edge
and has the size of the server network in a full one. A server network is a classifier; its images
are the output of an extractor.
"""

from flax import linen as nn
from jaxtyping import Float

from kdjax.core.arrays import Array
from kdjax.models import cnn
from kdjax.models.layers import ConvNorm
from kdjax.types import ModelOut


class Extractor(nn.Module):
  """3x3 convolution, norm, ReLU for every (channels, stride) of `layers`."""

  layers: tuple[tuple[int, int], ...]
  norm: str
  dtype: str
  axes: tuple
  conv: str

  @nn.compact
  def __call__(
    self, x: Float[Array, "B h w c"], train: bool, mask: Float[Array, " B"] | None
  ) -> Float[Array, "B h1 w1 c1"]:
    """[B, h, w, c] -> [B, h', w', the last layer's channels] of the compute dtype."""
    common = (self.norm, self.dtype, self.axes, self.conv)
    for channels, stride in self.layers:
      x = nn.relu(ConvNorm(channels, 3, stride, "same", *common)(x, train, mask))
    return x


class Model(nn.Module):
  """The extractor, with a layer for every (channels, stride) of `front`; then the layers of cnn.py.

  Features: 'extractor', 'layer1', 'layer2', ..., in the compute dtype.
  """

  classes: int
  heads: int
  norm: str
  dtype: str
  project: int
  front: tuple[tuple[int, int], ...]
  widths: tuple[int, ...]
  axes: tuple = ("data",)
  conv: str = "direct"

  @nn.compact
  def __call__(
    self, images: Float[Array, "B h w c"], train: bool, mask: Float[Array, " B"] | None = None
  ) -> ModelOut:
    """images f32[B, h, w, c], mask f32[B] or None -> ModelOut."""
    common = (self.norm, self.dtype, self.axes, self.conv)
    x = Extractor(self.front, *common, name="extractor")(images, train, mask)
    out = cnn.classify(self, x, train, mask)
    return out._replace(features={"extractor": x, **out.features})


Edge, Server = Model, cnn.Model
