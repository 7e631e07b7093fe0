"""The narrow ResNets for 32x32 images (He et al., CVPR 2016, section 4.2).

Depth 6n + 2, widths 16, 32, 64. Shortcuts are the paper's option A, without parameters. https://arxiv.org/abs/1512.03385
"""

import functools
from typing import Any

from flax import linen as nn
from jaxtyping import Float

from kdjax.core.arrays import Array
from kdjax.models.heads import Heads
from kdjax.models.layers import ConvNorm, wide_dtype
from kdjax.models.resnet import Block, stages
from kdjax.types import ModelOut


class Model(nn.Module):
  """A CIFAR ResNet; features: 'stem', 'stage1' to 'stage3', in the compute dtype.

  `scan` runs blocks of one shape as a loop.
  """

  classes: int
  heads: int
  norm: str
  dtype: str
  project: int
  depth: int
  axes: tuple = ("data",)
  conv: str = "direct"
  scan: bool = False

  choices = {"depth": (8, 14, 20, 32, 44, 56, 110)}

  @nn.compact
  def __call__(
    self, images: Float[Array, "B h w c"], train: bool, mask: Float[Array, " B"] | None = None
  ) -> ModelOut:
    """images f32[B, h, w, c], mask f32[B] or None -> ModelOut."""
    common: dict[str, Any] = dict(norm=self.norm, dtype=self.dtype, axes=self.axes, conv=self.conv)
    x = nn.relu(ConvNorm(16, 3, 1, "same", **common, name="stem")(images, train, mask))
    block = functools.partial(Block, bottleneck=False, shortcut="pad", **common)
    counts = ((self.depth - 2) // 6,) * 3
    features = stages(self, x, train, mask, block, counts, (16, 32, 64))
    x = features["stage3"].mean((1, 2), dtype=wide_dtype(self.dtype))
    heads = Heads(self.classes, self.heads, self.dtype, self.project, name="heads")
    return ModelOut(*heads(x), features)
