"""ResNet-18, -34 and -50 (He et al., "Deep Residual Learning for Image Recognition", CVPR 2016).

As in torchvision, the bottleneck's stride is on its 3x3 convolution, and no scale starts at zero.
https://arxiv.org/abs/1512.03385
"""

import functools
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Float

from kdjax.core.arrays import Array
from kdjax.models import loop
from kdjax.models.heads import Heads
from kdjax.models.layers import ConvNorm, max_pool_3x3_s2, wide_dtype
from kdjax.types import ModelOut


def pad_shortcut(
  x: Float[Array, "B h w c"], features: int, stride: int
) -> Float[Array, "B h1 w1 features"]:
  """Option A of He et al.: every stride-th pixel, with zeros in new channels; no parameters."""
  return jnp.pad(x[:, ::stride, ::stride], ((0, 0),) * 3 + ((0, features - x.shape[-1]),))


class Block(nn.Module):
  """A residual block: two 3x3 convolutions, or 1x1, 3x3 and 1x1 to four times the width.

  Where the shape changes, the shortcut is a 1x1 convolution with a norm ('projection') or
  `pad_shortcut` ('pad').
  """

  width: int
  stride: int
  bottleneck: bool
  shortcut: str
  norm: str
  dtype: str
  axes: tuple
  conv: str

  @nn.compact
  def __call__(
    self, x: Float[Array, "B h w c"], train: bool, mask: Float[Array, " B"] | None
  ) -> Float[Array, "B h1 w1 features"]:
    """x [B, h, w, c] -> [B, ceil(h / stride), ceil(w / stride), width or 4 width]."""
    common: dict[str, Any] = dict(norm=self.norm, dtype=self.dtype, axes=self.axes, conv=self.conv)
    layer: Callable = functools.partial(ConvNorm, padding="same", **common)
    if self.bottleneck:
      layers = [(self.width, 1, 1), (self.width, 3, self.stride), (4 * self.width, 1, 1)]
    else:
      layers = [(self.width, 3, self.stride), (self.width, 3, 1)]
    y, features = x, layers[-1][0]
    for i, sizes in enumerate(layers):
      y = layer(*sizes)(nn.relu(y) if i else y, train, mask)
    if self.shortcut == "pad":
      x = pad_shortcut(x, features, self.stride)
    elif x.shape != y.shape:
      x = layer(features, 1, self.stride, name="shortcut")(x, train, mask)
    return nn.relu(x + y)


def stages(
  module: nn.Module,
  x: Float[Array, "B h w c"],
  train: bool,
  mask: Float[Array, " B"] | None,
  block: Callable,
  counts: tuple[int, ...],
  widths: tuple[int, ...],
) -> dict[str, Array]:
  """Runs the stages of a residual network inside a module's `__call__`.

  Args:
    module: the module that is called; with its field `scan`, blocks of one shape become a loop.
    x: [B, h, w, c], the stem's output, in the compute dtype.
    train, mask: the module's arguments.
    block: (width, stride, name= or parent=) -> Block.
    counts, widths: blocks and width of every stage; all stages but the first halve the image.

  Returns:
    {'stem': x, 'stage1': ..., ...}, in order.
  """
  features = {"stem": x}
  for i, (count, width) in enumerate(zip(counts, widths, strict=True), 1):
    names = [f"stage{i}_block{j}" for j in range(1, count + 1)]
    halving = names[: i > 1]
    for name in halving:
      x = block(width, 2, name=name)(x, train, mask)
    rest = names[len(halving) :]
    for alike in loop.groups(module, rest) if module.scan else [[name] for name in rest]:
      if len(alike) > 1:
        x = loop.scan_blocks(module, block(width, 1, parent=None), alike, x, train, mask)
      else:
        x = block(width, 1, name=alike[0])(x, train, mask)
    features[f"stage{i}"] = x
  return features


class Model(nn.Module):
  """A ResNet whose stem is the ImageNet one (7x7, stride 2, max-pool) or 'small' (3x3, stride 1).

  `remat` keeps only the blocks' inputs for the backward pass and computes the rest again. `scan`
  runs blocks of one shape as a loop. `hidden` above 0 is the width of a dense layer with ReLU after
  the mean. Features: 'stem', 'stage1' to 'stage4', in the compute dtype.
  """

  classes: int
  heads: int
  norm: str
  dtype: str
  project: int
  depth: int
  stem: str
  axes: tuple = ("data",)
  conv: str = "direct"
  hidden: int = 0
  remat: bool = False
  scan: bool = False

  choices = {"depth": (18, 34, 50), "stem": ("imagenet", "small")}

  @nn.compact
  def __call__(
    self, images: Float[Array, "B h w c"], train: bool, mask: Float[Array, " B"] | None = None
  ) -> ModelOut:
    """images f32[B, h, w, c], mask f32[B] or None -> ModelOut."""
    common: dict[str, Any] = dict(norm=self.norm, dtype=self.dtype, axes=self.axes, conv=self.conv)
    if self.stem == "imagenet":
      x = nn.relu(ConvNorm(64, 7, 2, "same", **common, name="stem")(images, train, mask))
      x = max_pool_3x3_s2(x)
    else:
      x = nn.relu(ConvNorm(64, 3, 1, "same", **common, name="stem")(images, train, mask))
    kind = nn.remat(Block, static_argnums=(2,)) if self.remat else Block  # 2: train
    block = functools.partial(kind, bottleneck=self.depth == 50, shortcut="projection", **common)
    counts = (2, 2, 2, 2) if self.depth == 18 else (3, 4, 6, 3)
    features = stages(self, x, train, mask, block, counts, (64, 128, 256, 512))
    x = features["stage4"].mean((1, 2), dtype=wide_dtype(self.dtype))
    heads = Heads(
      self.classes, self.heads, self.dtype, self.project, hidden=self.hidden, name="heads"
    )
    return ModelOut(*heads(x), features)
