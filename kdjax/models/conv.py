"""Convolutions with each client's own kernel, and their lowerings.

`jax.vmap` turns K convolutions with K kernels into one grouped convolution, for which few libraries
are fast. A convolution's gradients inside a loop are slow on XLA:CPU. So there are three lowerings
of one function; the fastest one depends on backend, network and K (`forms.py`).
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Float

from kdjax.core import machine
from kdjax.core.arrays import Array
from kdjax.core.noinline import noinline

LOWERINGS = ("direct", "split", "matmul")


def conv(
  x: Float[Array, "B h w c"],
  kernel: Float[Array, "k k c features"],
  stride: int,
  pad: int,
  lowering: str,
) -> Float[Array, "B h1 w1 features"]:
  """A convolution, NHWC and HWIO.

  Args:
    x: [B, h, w, c].
    kernel: [k, k, c, features], of x's dtype.
    stride: int, in pixels.
    pad: int, pixels of zeros on each side.
    lowering: 'direct', one convolution (under `vmap` a grouped one); 'split', under `vmap` one
      convolution per client; 'matmul', a sum of k * k matrix products (under `vmap` batched).

  Returns:
    [B, (h + 2 pad - k) // stride + 1, the same of w, features].
  """
  if lowering == "matmul":
    return _matmul(x, kernel, stride, pad)
  return _conv(x, kernel, stride, pad, lowering == "split")


def _matmul(x, kernel, stride, pad):
  """The sum over the kernel's pixels of (the inputs that each one meets) times (its weights)."""
  k = kernel.shape[0]
  height, width = ((n + 2 * pad - k) // stride + 1 for n in x.shape[1:3])
  x = jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))

  def inputs(i, j):
    rows = slice(i, i + (height - 1) * stride + 1, stride)
    return x[:, rows, j : j + (width - 1) * stride + 1 : stride]

  wide = jnp.promote_types(x.dtype, jnp.float32)  # the dtype of a convolution's accumulator
  product = functools.partial(jnp.matmul, preferred_element_type=wide)
  total = sum(product(inputs(i, j), kernel[i, j]) for i in range(k) for j in range(k))
  return total.astype(x.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _conv(x, kernel, stride, pad, split):
  """A convolution whose two gradients are, on CPU, written as plain NHWC/HWIO convolutions.

  Autodiff writes gradients with other dimension orders, which XLA:CPU brings into the fast form in
  straight-line code only; inside a loop they are some 15 times slower. Other compilers recognise
  autodiff's form, so they get it. Reverse mode only.
  """
  return _convolve(split, stride, ((pad, pad),) * 2, 1, 1, x, kernel)


def _forward(x, kernel, stride, pad, split):
  return _conv(x, kernel, stride, pad, split), (x, kernel)


def _backward(stride, pad, split, residuals, grad):
  x, kernel = residuals
  if machine.backend() != "cpu":
    return _autodiff(stride, pad, split, x, kernel, grad)
  x_padding, kernel_padding = [], []
  for k, n, out in zip(kernel.shape[:2], x.shape[1:3], grad.shape[1:3], strict=True):
    reach = (out - 1) * stride + 1  # the gradient's size once spread out by the stride
    x_padding.append((k - 1 - pad, n + pad - reach))
    kernel_padding.append((pad, reach + k - 1 - n - pad))  # negative where pixels are never read
  flipped = kernel[::-1, ::-1].transpose(0, 1, 3, 2)
  x_grad = _convolve(split, 1, tuple(x_padding), stride, 1, grad, flipped)
  gradient = functools.partial(_kernel_gradient, split, tuple(kernel_padding), stride)
  return x_grad, noinline(gradient)(x, grad)


_conv.defvjp(_forward, _backward)


def _autodiff(stride, pad, split, x, kernel, grad):
  """Both gradients as autodiff writes them."""

  def pull(x, kernel, grad):
    forward = functools.partial(_convolve, False, stride, ((pad, pad),) * 2, 1, 1)
    (x_grad,) = jax.linear_transpose(lambda x: forward(x, kernel), x)(grad)
    (kernel_grad,) = jax.linear_transpose(lambda kernel: forward(x, kernel), kernel)(grad)
    return x_grad, kernel_grad

  return (_one_by_one(pull) if split else pull)(x, kernel, grad)


def _kernel_gradient(split, padding, stride, x, grad):
  """x [B, h, w, c], the output's gradient [B, h', w', features] -> [k, k, c, features].

  It has to be called through `noinline`. Otherwise the transposition is fused with the computation
  of `x`, back through all residual connections, which then runs a second time, element by element
  (bench suite `tried`).
  """
  swapped = x.transpose(3, 1, 2, 0), grad.transpose(1, 2, 0, 3)  # the batch becomes the channels
  return _convolve(split, 1, padding, 1, stride, *swapped).transpose(1, 2, 0, 3)


def _convolve(split, stride, padding, x_dilation, kernel_dilation, x, kernel):
  """One convolution; with `split`, `vmap` turns it into one convolution per client."""
  plain = functools.partial(
    jax.lax.conv_general_dilated,
    window_strides=(stride, stride),
    padding=padding,
    lhs_dilation=(x_dilation, x_dilation),
    rhs_dilation=(kernel_dilation, kernel_dilation),
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
  )
  return _one_by_one(plain)(x, kernel) if split else plain(x, kernel)


def _one_by_one(fn):
  """`fn` with a batching rule by which `vmap` calls it once per element."""
  single = jax.custom_batching.custom_vmap(fn)

  @single.def_vmap
  def rule(size, batched, *args):
    pick = lambda x, is_batched, k: x[k] if is_batched else x
    outs = [single(*(pick(*a, k) for a in zip(args, batched, strict=True))) for k in range(size)]
    return jax.tree.map(lambda *x: jnp.stack(x), *outs), jax.tree.map(lambda _: True, outs[0])

  return single
