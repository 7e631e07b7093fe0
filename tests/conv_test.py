"""The convolution and its hand-written gradients against autodiff."""

import functools
import itertools
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.models import layers
from kdjax.types import ConfigError

rng = np.random.default_rng(0)


def plain_conv(x, kernel, stride, pad):
  padding = ((pad, pad), (pad, pad))
  dims = ("NHWC", "HWIO", "NHWC")
  return jax.lax.conv_general_dilated(x, kernel, (stride,) * 2, padding, dimension_numbers=dims)


def conv_case(k, size, clients=()):
  shape = (*clients, 2, *size, 2), (*clients, k, k, 2, 3)
  return tuple(rng.normal(size=s) for s in shape)


@pytest.mark.parametrize("k", [1, 3, 5, 7])
def test_conv_and_its_gradients_equal_autodiff(k):
  sizes = ((8, 9), (14, 15))
  cases = list(itertools.product(sizes, (1, 2), {0, k // 2}))

  @functools.partial(jax.jit, static_argnums=0)
  def run(conv, data):
    def one(x, kernel, stride, pad):
      y, vjp = jax.vjp(lambda x, w: conv(x, w, stride, pad), x, kernel)
      return y, vjp(jnp.sin(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape))

    return [one(*d, s, p) for d, (_, s, p) in zip(data, cases, strict=True)]

  with jax.enable_x64(True):
    data = [conv_case(k, size) for size, _, _ in cases]
    chex.assert_trees_all_close(run(layers.conv, data), run(plain_conv, data), rtol=1e-12)


def test_conv_over_clients_equals_separate_calls():
  with jax.enable_x64(True):
    x, kernel = conv_case(3, (8, 9), clients=(3,))
    grads = jax.grad(lambda x, w: jnp.sin(layers.conv(x, w, 2, 1)).sum(), (0, 1))
    plain = jax.grad(lambda x, w: jnp.sin(plain_conv(x, w, 2, 1)).sum(), (0, 1))
    right = jax.tree.map(lambda *g: np.stack(g), *map(jax.jit(plain), x, kernel))
    chex.assert_trees_all_close(jax.jit(jax.vmap(grads))(x, kernel), right, rtol=1e-12)
    loop = jax.jit(lambda *a: jax.lax.map(lambda one: grads(*one), a))
    chex.assert_trees_all_close(loop(x, kernel), right, rtol=1e-12)


def test_gradients_inside_a_loop_are_canonical_convolutions():
  def labels(conv):
    def loss(pair):
      x, kernel = pair
      return (conv(jnp.tanh(conv(x, kernel, 1, 1)), kernel, 2, 1) ** 2).sum()

    pairs = np.ones((2, 4, 8, 8, 3), np.float32), np.ones((2, 3, 3, 3, 3), np.float32)
    loop = jax.jit(lambda pairs: jax.lax.map(jax.grad(loss), pairs))
    text = loop.lower(pairs).compile().as_text()
    return re.findall(r"dim_labels=([\w>-]+)", text)

  assert set(labels(layers.conv)) == {"b01f_01io->b01f"}
  assert len(labels(layers.conv)) == len(labels(plain_conv)) == 6
  assert len(set(labels(plain_conv))) > 1, "XLA no longer needs the hand-written gradients"


def test_same_padding_is_symmetric_at_stride_two():
  conv = layers.Conv(1, 3, 2, "same", use_bias=True, dtype="float32")
  params = {"kernel": np.ones((3, 3, 1, 1)), "bias": np.ones(1)}
  y = conv.apply({"params": params}, np.ones((1, 4, 4, 1)))
  np.testing.assert_array_equal(y[0, ..., 0], [[5, 7], [7, 10]])  # 4, 6, 6, 9 pixels and the bias


def test_conv_initial_values_are_he_normal():
  conv = layers.Conv(64, 3, 1, "same", use_bias=False, dtype="bfloat16")
  params = conv.init(jax.random.key(0), np.ones((1, 4, 4, 32)))["params"]
  assert list(params) == ["kernel"] and params["kernel"].dtype == jnp.float32
  np.testing.assert_allclose(params["kernel"].std(), np.sqrt(2 / (9 * 64)), rtol=0.02)


def test_an_image_smaller_than_the_kernel_is_refused():
  conv = layers.Conv(1, 3, 2, "valid", use_bias=False, dtype="float32")
  with pytest.raises(ConfigError, match="3x3 does not fit"):
    jax.eval_shape(conv.init, jax.random.key(0), np.ones((1, 2, 8, 1)))
