"""Convolutions and matrix products of a compiled program: their FLOPs and their rates."""

import dataclasses
import math
import re
from collections.abc import Iterator

import numpy as np

from kdjax.hardware.hlo import Array, Computation, Instruction, Module
from kdjax.hardware.target import Target

PASSES = 6  # bfloat16 passes of a TPU's float32 product at the highest precision


@dataclasses.dataclass(frozen=True)
class Product:
  """A convolution or a matrix product."""

  kind: str  # 'convolution' or 'product'
  dtype: str  # dtype of the factors
  layout: str  # a convolution's dimensions in the compiled program, 'b01f_01io->b01f'
  flops: float  # two per multiply-add
  exact: bool  # whether the highest precision is asked for


def found(module: Module, one: Instruction, computation: Computation) -> Iterator[Product]:
  """The convolutions and matrix products of an instruction, also those inside a fusion."""
  for part, scope in ((one, computation), *module.within(one)):
    arrays = [scope[name].result[0] for name in part.operands if name in scope]
    if part.op == "convolution":
      yield _convolution(part, arrays[0], arrays[1], part.result[0])
    elif part.op == "dot":
      contracted = part.field(r"lhs_contracting_dims=\{([\d,]*)\}")
      yield _product(part, arrays[0], contracted)
    elif part.op == "custom-call" and "cudnn$conv" in part.rest:
      roles = arrays[0], arrays[1], part.result[0]  # input, kernel, output
      if "BackwardInput" in part.rest:
        roles = part.result[0], arrays[1], arrays[0]
      elif "BackwardFilter" in part.rest:
        roles = arrays[0], part.result[0], arrays[1]
      yield _convolution(part, *roles, multiplied=arrays[0].dtype)
    elif part.op == "custom-call" and "cublas" in part.rest:
      contracted = part.field(r'lhs_contracting_dimensions":\["?([\d",]*)"?\]')
      yield _product(part, arrays[0], contracted.replace('"', ""))


def _exact(one):
  """Whether a product is asked for at the highest precision, in either notation."""
  return bool(re.search(r"operand_precision\W+(\w+\W+)?highest", one.rest, re.IGNORECASE))


def _product(one, left, contracted):
  size = math.prod(left.shape[int(d)] for d in contracted.split(",") if d)
  flops = 2.0 * math.prod(one.result[0].shape) * size
  return Product("product", left.dtype, "", flops, _exact(one))


def _convolution(one: Instruction, read: Array, kernel: Array, out: Array, multiplied: str = ""):
  """A convolution with its FLOPs as XLA counts them: without multiply-adds of padding."""
  labels = one.field(r"dim_labels=([\w?]+_[\w?]+->[\w?]+)")
  from_, rest = labels.split("_")
  weights, to = rest.split("->")
  spatial = sorted(c for c in to if c.isdigit())
  window = one.field(r"window=\{([^}]*)\}")
  entries = dict(re.findall(r"(\w+)=([^\s}]+)", window))

  def entry(name, i, default):
    return entries[name].split("x")[i] if name in entries else default

  pairs = 1
  convolves = False
  for i, d in enumerate(spatial):
    low = int(entry("pad", i, "0_0").split("_")[0])
    n, k = read.shape[from_.index(d)], kernel.shape[weights.index(d)]
    stride, spread = int(entry("stride", i, 1)), int(entry("lhs_dilate", i, 1))
    dilation, size = int(entry("rhs_dilate", i, 1)), out.shape[to.index(d)]
    pairs *= _pairs(n, k, size, low=low, stride=stride, spread=spread, dilation=dilation)
    # A TPU writes the batch of a product as an axis along which every place meets its own kernel.
    is_batch = n == k == size == spread == stride + 1 and low == 0
    convolves |= not is_batch
  features = out.shape[to.index("b")] * out.shape[to.index("f")] * kernel.shape[weights.index("i")]
  kind = "convolution" if convolves else "product"
  laid = labels if convolves else ""
  return Product(kind, multiplied or read.dtype, laid, 2.0 * features * pairs, _exact(one))


def _pairs(n, k, out, *, low, stride, spread, dilation):
  """The number of pairs (output position, kernel position) along one axis that meet an input."""
  at = stride * np.arange(out)[:, None] + dilation * np.arange(k) - low
  return int(((at >= 0) & (at <= (n - 1) * spread) & (at % spread == 0)).sum())


def rate(target: Target, product: Product) -> float:
  """FLOP/s of a product; a dtype that the target's file does not name runs as float32.

  By JAX's default, NVIDIA's cards multiply float32 as TF32, and TPUs as bfloat16 in one pass. At
  the highest precision TPUs need six passes.
  """
  if target.kind == "tpu" and product.exact and product.dtype == "f32":
    return target.peak["float32"] / PASSES
  names = {"bf16": "bfloat16", "f16": "float16", "f32": "tf32", "f64": "float64"}
  name = names.get(product.dtype, product.dtype)
  exact = product.exact and name == "tf32"
  return target.peak.get("float32" if exact else name, target.peak["float32"])
