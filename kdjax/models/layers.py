"""Layers that replace Flax's own where these would go wrong inside a mapped, sharded step.

Convolutions keep their speed in loops and for many clients at once (`conv.py`). BatchNorm leaves
out masked examples of a split batch. Dropout does not depend on the split of the batch, and
max-pooling has a deterministic gradient. Images are NHWC, kernels HWIO. `dtype` names the compute
dtype; parameters and statistics have the wide dtype (`wide_dtype`).
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Float

from kdjax.core.arrays import Array
from kdjax.core.random import example_keys
from kdjax.models.conv import conv
from kdjax.types import ConfigError

NORMS = ("batch", "group", "layer", "none")
DTYPES = ("float32", "bfloat16", "float64")
MOMENTUM, EPSILON = 0.9, 1e-5  # of BatchNorm; every other norm shares the epsilon
he_normal = nn.initializers.variance_scaling(2.0, "fan_out", "normal")  # He et al. 2015


def wide_dtype(dtype: str) -> jnp.dtype:
  """The dtype of parameters, statistics, embeddings and logits: float32; float64 for 'float64'."""
  if dtype not in DTYPES:
    raise ConfigError("dtype", dtype, f"one of {DTYPES}")
  return jnp.dtype("float64" if dtype == "float64" else "float32")


class Conv(nn.Module):
  """A convolution with a square kernel, initialised He-normal (fan out).

  `padding` is 'same' (kernel // 2 zeros on each side, whatever the stride, as in the networks of He
  et al.) or 'valid' (none); `lowering` is one of `conv.LOWERINGS`. Raises ConfigError where the
  image is smaller than the kernel.
  """

  features: int
  kernel: int
  stride: int
  padding: str
  use_bias: bool
  dtype: str
  lowering: str

  @nn.compact
  def __call__(self, x: Float[Array, "B h w c"]) -> Float[Array, "B h1 w1 features"]:
    """[B, h, w, c] -> [B, h', w', features] of the compute dtype."""
    wide, dtype = wide_dtype(self.dtype), jnp.dtype(self.dtype)
    pad = {"same": self.kernel // 2, "valid": 0}[self.padding]
    if min(x.shape[1:3]) + 2 * pad < self.kernel:
      hint = f"larger images or fewer layers: this one's {self.kernel}x{self.kernel} does not fit"
      raise ConfigError("image", x.shape[1:3], hint)
    shape = (self.kernel, self.kernel, x.shape[-1], self.features)
    kernel = self.param("kernel", he_normal, shape, wide)
    x = conv(x.astype(dtype), kernel.astype(dtype), self.stride, pad, self.lowering)
    if self.use_bias:
      x = x + self.param("bias", nn.initializers.zeros, (self.features,), wide).astype(dtype)
    return x


class BatchNorm(nn.Module):
  """Batch normalisation (Ioffe & Szegedy 2015) over the unmasked examples of the whole batch.

  In training the moments are a psum over `axes` of masked sums divided by a psum of counts, in two
  passes and in the wide dtype; masked examples come out as the bias, so they stay finite. Running
  statistics (collection 'batch_stats'; the variance is the biased one, as Flax's and unlike
  PyTorch's) move by a tenth towards the batch's, and not at all where every example is masked.
  """

  dtype: str
  axes: tuple = ("data",)  # mesh axes that the batch is split over

  @nn.compact
  def __call__(
    self, x: Float[Array, "B *hw c"], train: bool, mask: Float[Array, " B"] | None
  ) -> Float[Array, "B *hw c"]:
    """x [B, ..., c], mask f32[B] or None (all ones) -> [B, ..., c] of the compute dtype."""
    wide, width = wide_dtype(self.dtype), x.shape[-1:]
    scale = self.param("scale", nn.initializers.ones, width, wide)
    bias = self.param("bias", nn.initializers.zeros, width, wide)
    running_mean = self.variable("batch_stats", "mean", jnp.zeros, width, wide)
    running_var = self.variable("batch_stats", "var", jnp.ones, width, wide)
    x = x.astype(wide)
    if train and not self.is_initializing():  # initialisation may happen outside the mesh
      centred, mean, var, count = self._moments(x, mask)
      rate = jnp.where(count > 0, 1 - MOMENTUM, 0).astype(wide)
      running_mean.value += rate * (mean - running_mean.value)
      running_var.value += rate * (var - running_var.value)
    else:
      centred, var = x - running_mean.value, running_var.value
    x = centred * (jax.lax.rsqrt(var + EPSILON) * scale) + bias
    return x.astype(self.dtype)

  def _moments(self, x, mask):
    """(x - mean, 0 for masked examples; mean [c]; biased variance [c]; number of values)."""
    live = jnp.ones(x.shape[:1], bool) if mask is None else mask > 0
    count = self._total(live.sum().astype(x.dtype)) * math.prod(x.shape[1:-1])
    live = live.reshape(live.shape + (1,) * (x.ndim - 1))

    def average(v):
      return self._total(v.sum(range(x.ndim - 1))) / jnp.maximum(count, 1)

    mean = average(jnp.where(live, x, 0))
    centred = jnp.where(live, x - mean, 0)
    return centred, mean, average(centred**2), count

  def _total(self, local):
    return jax.lax.psum(local, self.axes) if self.axes else local


def group_count(channels: int) -> int:
  """GroupNorm's groups: 32 (Wu & He 2018), or fewer so that each has at least four channels.

  The largest of 32, 16, 8, 4, 2 that divides the channels in this way, else 1. A group of a single
  channel would be constant on a 1x1 image.
  """
  fits = (g for g in (32, 16, 8, 4, 2) if channels % g == 0 and channels // g >= 4)
  return next(fits, 1)


def norm(kind: str, dtype: str, axes: tuple[str, ...]) -> Callable:
  """A normalisation `(x, train, mask) -> x` for use inside a module's `__call__`.

  Args:
    kind: 'batch'; 'group' (`group_count` groups); 'layer' (over the channels alone); 'none'.
    dtype: the compute dtype's name.
    axes: mesh axes that BatchNorm sums over.
  """
  settings: dict[str, Any] = dict(
    epsilon=EPSILON, dtype=jnp.dtype(dtype), param_dtype=wide_dtype(dtype)
  )
  settings["use_fast_variance"] = False  # E[x^2] - E[x]^2 cancels in float32
  if kind == "batch":
    return BatchNorm(dtype, axes)
  if kind == "group":
    return lambda x, train, mask: nn.GroupNorm(group_count(x.shape[-1]), **settings)(x)
  if kind == "layer":
    return lambda x, train, mask: nn.LayerNorm(**settings)(x)
  if kind == "none":
    return lambda x, train, mask: x
  raise ConfigError("norm", kind, f"one of {NORMS}")


class ConvNorm(nn.Module):
  """A convolution and its norm; the convolution has a bias only where there is no norm."""

  features: int
  kernel: int
  stride: int
  padding: str
  norm: str
  dtype: str
  axes: tuple
  conv: str

  @nn.compact
  def __call__(
    self, x: Float[Array, "B h w c"], train: bool, mask: Float[Array, " B"] | None
  ) -> Float[Array, "B h1 w1 features"]:
    """[B, h, w, c] -> [B, h', w', features] of the compute dtype."""
    shape = (self.features, self.kernel, self.stride, self.padding)
    x = Conv(*shape, use_bias=self.norm == "none", dtype=self.dtype, lowering=self.conv)(x)
    return norm(self.norm, self.dtype, self.axes)(x, train, mask)


class Dropout(nn.Module):
  """Dropout (Srivastava et al. 2014) whose masks are keyed by places in the whole batch.

  In training it needs the mesh axis `data` and the rng 'dropout'. It is the identity in evaluation,
  during initialisation and at rate 0.
  """

  rate: float

  @nn.compact
  def __call__(self, x: Float[Array, "B ..."], train: bool) -> Float[Array, "B ..."]:
    """x [B, ...] -> [B, ...]; kept values are divided by 1 - rate."""
    if not 0 <= self.rate < 1:
      raise ConfigError("dropout", self.rate, "a rate from 0 to below 1")
    if not train or self.rate == 0 or self.is_initializing():
      return x
    keys = example_keys(self.make_rng("dropout"), x.shape[0])
    keep = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - self.rate, x.shape[1:]))(keys)
    return jnp.where(keep, x / (1 - self.rate), 0)


def max_pool_3x3_s2(x: Float[Array, "B h w c"]) -> Float[Array, "B h1 w1 c"]:
  """3x3 max-pooling, stride 2, one pixel of padding: [B, h, w, c] -> [B, ceil(h/2), ceil(w/2), c].

  It is the maximum over nine shifted slices, because the gradient of a windowed reduction
  (select-and-scatter) is not deterministic on GPUs. Equal maxima share the gradient.
  """
  h, w = x.shape[1:3]
  padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-jnp.inf)
  shifted = [padded[:, i : i + h : 2, j : j + w : 2] for i in range(3) for j in range(3)]
  return functools.reduce(jnp.maximum, shifted)


def avg_pool(
  x: Float[Array, "B h w c"], window: int, stride: int, padding: str
) -> Float[Array, "B h1 w1 c"]:
  """Average pooling of [B, h, w, c] over a square window.

  `padding` is 'valid' or 'same'. 'same' follows Keras: an odd pixel of padding is at the end, and
  the mean leaves padding out.
  """
  size, strides = (window, window), (stride, stride)
  pooled = nn.avg_pool(x, size, strides, padding.upper(), count_include_pad=False)
  return pooled.astype(x.dtype)  # Flax divides by float32 counts
