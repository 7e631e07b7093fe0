"""The split bottleneck ResNets of FedGKT: edge networks, server networks and full networks.

He, Annavaram and Avestimehr, "Group Knowledge Transfer", NeurIPS 2020, https://arxiv.org/abs/2007.14513,
as its published code builds them. Edge networks and full networks begin with an `extractor`, whose
output is the input of a server network. A full network is an extractor and a server network.

Readings: ResNet-8 is the code's (two bottlenecks). Table 7 shows another network, which does not
have the paper's ratios of sizes and operations. ResNet-4 and -6 have one and two plain blocks.
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

WIDTH = 16  # of the extractor, and of the first stage's 3x3 convolutions


def common(model: nn.Module) -> dict[str, Any]:
  """The arguments that a network passes on to each of its layers."""
  return dict(norm=model.norm, dtype=model.dtype, axes=model.axes, conv=model.conv)


def extract(
  model: nn.Module, images: Float[Array, "B h w c"], train: bool, mask: Float[Array, " B"] | None
) -> Float[Array, "B h w 16"]:
  """The stem: 3x3 convolution to 16 channels, norm, ReLU: [B, h, w, c] -> [B, h, w, 16]."""
  stem = ConvNorm(WIDTH, 3, 1, "same", **common(model), name="extractor")
  return nn.relu(stem(images, train, mask))


def classify(
  model: nn.Module,
  x: Float[Array, "B h w c"],
  train: bool,
  mask: Float[Array, " B"] | None,
  counts: tuple[int, ...],
  widths: tuple[int, ...],
  bottleneck: bool,
) -> ModelOut:
  """Residual stages, the mean and the heads, for use inside a model's `__call__`, like `extract`.

  Args:
    model: the module that is called.
    x: [B, h, w, 16], the extractor's output.
    train, mask: the model's arguments.
    counts, widths: blocks and width of every stage, see `resnet.stages`.
    bottleneck: whether blocks are bottlenecks.

  Returns:
    ModelOut without the stem among its features.
  """
  kind = dict(bottleneck=bottleneck, shortcut="projection", **common(model))
  features = stages(model, x, train, mask, functools.partial(Block, **kind), counts, widths)
  del features["stem"]
  x = features[f"stage{len(counts)}"].mean((1, 2), dtype=wide_dtype(model.dtype))
  heads = Heads(model.classes, model.heads, model.dtype, model.project, name="heads")
  return ModelOut(*heads(x), features)


def serve(
  model: nn.Module, x: Float[Array, "B h w c"], train: bool, mask: Float[Array, " B"] | None
) -> ModelOut:
  """The server's part: three stages of equally many bottlenecks, by the depth."""
  counts = (model.depth // 9,) * 3  # 55 and 56: 6, 109 and 110: 12
  return classify(model, x, train, mask, counts, (16, 32, 64), bottleneck=True)


class Edge(nn.Module):
  """ResNet-4, -6 or -8: the extractor and a small classifier at its resolution.

  Features: 'extractor', 'stage1', in the compute dtype.
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

  choices = {"depth": (4, 6, 8)}

  @nn.compact
  def __call__(
    self, images: Float[Array, "B h w c"], train: bool, mask: Float[Array, " B"] | None = None
  ) -> ModelOut:
    """images f32[B, h, w, c], mask f32[B] or None -> ModelOut."""
    x = extract(self, images, train, mask)
    count = {4: 1, 6: 2, 8: 2}[self.depth]
    out = classify(self, x, train, mask, (count,), (WIDTH,), bottleneck=self.depth == 8)
    return out._replace(features={"extractor": x, **out.features})


class Server(nn.Module):
  """ResNet-55 or -109; its images are the output of an extractor.

  Features: 'stage1' to 'stage3', in the compute dtype.
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

  choices = {"depth": (55, 109)}

  @nn.compact
  def __call__(
    self, images: Float[Array, "B h w c"], train: bool, mask: Float[Array, " B"] | None = None
  ) -> ModelOut:
    """images [B, h, w, 16], mask f32[B] or None -> ModelOut."""
    return serve(self, images, train, mask)


class Model(nn.Module):
  """ResNet-56 or -110 of bottlenecks: an extractor and the server network of depth - 1.

  Features: 'extractor', 'stage1' to 'stage3', in the compute dtype.
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

  choices = {"depth": (56, 110)}

  @nn.compact
  def __call__(
    self, images: Float[Array, "B h w c"], train: bool, mask: Float[Array, " B"] | None = None
  ) -> ModelOut:
    """images f32[B, h, w, c], mask f32[B] or None -> ModelOut."""
    x = extract(self, images, train, mask)
    out = serve(self, x, train, mask)
    return out._replace(features={"extractor": x, **out.features})
