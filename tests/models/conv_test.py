"""The convolution and its hand-written gradients against autodiff."""

import functools
import itertools
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from noise import rng

from kdjax.core.mapping import MAPS, map_clients
from kdjax.models import layers
from kdjax.models.conv import LOWERINGS
from kdjax.training import program
from kdjax.types import ConfigError


def plain_conv(x, kernel, stride, pad):
  padding = ((pad, pad), (pad, pad))
  dims = ("NHWC", "HWIO", "NHWC")
  return jax.lax.conv_general_dilated(x, kernel, (stride,) * 2, padding, dimension_numbers=dims)


def conv_case(k, size, clients=()):
  shape = (*clients, 2, *size, 2), (*clients, k, k, 2, 3)
  return tuple(rng.normal(size=s) for s in shape)


def pulled(conv, x, kernel, *shape):
  """What a convolution gives, and the gradients of both arguments for some gradient of it."""
  y, vjp = jax.vjp(lambda x, w: conv(x, w, *shape), x, kernel)
  return y, vjp(jnp.sin(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape))


@pytest.mark.parametrize("k", [1, 3, 7])
def test_conv_and_its_gradients_equal_autodiff(k):
  sizes = ((8, 9), (14, 15))
  cases = list(itertools.product(sizes, (1, 2), {0, k // 2}))

  @functools.partial(jax.jit, static_argnums=0)
  def run(conv, data):
    return [pulled(conv, *d, s, p) for d, (_, s, p) in zip(data, cases, strict=True)]

  with jax.enable_x64(True):
    data = [conv_case(k, size) for size, _, _ in cases]
    right = run(plain_conv, data)
    for lowering in ("direct", "matmul"):
      conv = functools.partial(layers.conv, lowering=lowering)
      chex.assert_trees_all_close(run(conv, data), right, rtol=1e-12, atol=1e-12)


def test_on_cpu_a_kernels_gradient_reads_the_image_instead_of_making_it_again():
  """The second layer's image is a sum of what two layers made; XLA would fuse that in."""
  conv = functools.partial(layers.conv, stride=1, pad=1, lowering="direct")

  def loss(kernels, x):
    first = jax.nn.relu(conv(x, kernels[0]))
    return (conv(jax.nn.relu(conv(first, kernels[1]) + first), kernels[2]) ** 2).sum()

  x, kernels = np.ones((4, 8, 8, 4), np.float32), np.ones((3, 3, 3, 4, 4), np.float32)
  compiled = jax.jit(jax.grad(loss)).lower(kernels, x).compile(program.compiler_options("cpu"))
  text = compiled.as_text()
  assert len(re.findall(r" call\(.*inlineable=\"false\"", text)) == 3


def test_on_cpu_convolutions_go_to_eigen():
  """This XLA knows the option, and it does what it is there for."""
  conv = functools.partial(layers.conv, stride=1, pad=1, lowering="direct")
  x, kernel = np.ones((4, 32, 32, 32), np.float32), np.ones((3, 3, 32, 32), np.float32)
  compiled = lambda options: jax.jit(conv).lower(x, kernel).compile(options).as_text()
  assert "ynn" in compiled(None)
  assert "ynn" not in compiled(program.compiler_options("cpu"))


@pytest.mark.parametrize("lowering", LOWERINGS)
@pytest.mark.parametrize("local_map", MAPS)
def test_conv_over_clients_equals_separate_calls(local_map, lowering):
  with jax.enable_x64(True):
    x, kernel = conv_case(3, (8, 9), clients=(3,))
    right = [pulled(plain_conv, *one, 2, 1) for one in zip(x, kernel, strict=True)]
    right = jax.tree.map(lambda *leaves: np.stack(leaves), *right)
    conv = functools.partial(layers.conv, lowering=lowering)
    one = lambda x, w: pulled(conv, x, w, 2, 1)
    together = jax.jit(lambda *args: map_clients(local_map, one, *args))(x, kernel)
    chex.assert_trees_all_close(together, right, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
  "lowering, grouped, convolutions",
  [("direct", True, 3), ("split", False, 9), ("matmul", False, 0)],
)
def test_how_a_batched_convolution_is_written(lowering, grouped, convolutions):
  """Of three clients: forward and two gradients."""
  conv = functools.partial(layers.conv, lowering=lowering)
  one = lambda x, w: pulled(conv, x, w, 1, 1)
  arguments = conv_case(3, (8, 9), clients=(3,))
  text = jax.jit(jax.vmap(one)).lower(*arguments).as_text()
  assert text.count("stablehlo.convolution") == convolutions
  assert ("feature_group_count = 3" in text) == grouped


def test_gradients_inside_a_loop_are_canonical_convolutions():
  def labels(conv):
    def loss(pair):
      x, kernel = pair
      return (conv(jnp.tanh(conv(x, kernel, 1, 1)), kernel, 2, 1) ** 2).sum()

    pairs = np.ones((2, 4, 8, 8, 3), np.float32), np.ones((2, 3, 3, 3, 3), np.float32)
    loop = jax.jit(lambda pairs: jax.lax.map(jax.grad(loss), pairs))
    text = loop.lower(pairs).compile().as_text()
    return re.findall(r"dim_labels=([\w>-]+)", text)

  conv = functools.partial(layers.conv, lowering="direct")
  assert set(labels(conv)) == {"b01f_01io->b01f"}
  assert len(labels(conv)) == len(labels(plain_conv)) == 6
  assert len(set(labels(plain_conv))) > 1, "XLA no longer needs the hand-written gradients"


@pytest.mark.parametrize("lowering, copies", [("direct", 1), ("split", 3)])
def test_other_compilers_than_the_cpus_get_autodiffs_gradients(lowering, copies, monkeypatch):
  monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
  conv = functools.partial(layers.conv, lowering=lowering)
  over = jax.vmap if lowering == "split" else lambda fn: fn
  arguments = conv_case(3, (8, 9), clients=(3,) if lowering == "split" else ())

  def labels(fn, arguments):
    text = jax.jit(fn).lower(*arguments).as_text()
    return sorted(re.findall(r"dim_numbers = (.*?), window", text))

  plain = labels(lambda x, w: pulled(plain_conv, x, w, 2, 1), conv_case(3, (8, 9)))
  assert len(set(plain)) == 3
  ours = over(lambda x, w: pulled(conv, x, w, 2, 1))
  assert labels(ours, arguments) == sorted(plain * copies)
  right = over(lambda x, w: pulled(plain_conv, x, w, 2, 1))
  chex.assert_trees_all_close(jax.jit(ours)(*arguments), right(*arguments), rtol=1e-5, atol=1e-5)


def test_same_padding_is_symmetric_at_stride_two():
  conv = layers.Conv(1, 3, 2, "same", use_bias=True, dtype="float32", lowering="direct")
  params = {"kernel": np.ones((3, 3, 1, 1)), "bias": np.ones(1)}
  y = conv.apply({"params": params}, np.ones((1, 4, 4, 1)))
  np.testing.assert_array_equal(y[0, ..., 0], [[5, 7], [7, 10]])  # 4, 6, 6, 9 pixels and the bias


def test_conv_initial_values_are_he_normal():
  conv = layers.Conv(64, 3, 1, "same", use_bias=False, dtype="bfloat16", lowering="direct")
  params = conv.init(jax.random.key(0), np.ones((1, 4, 4, 32)))["params"]
  assert list(params) == ["kernel"] and params["kernel"].dtype == jnp.float32
  np.testing.assert_allclose(params["kernel"].std(), np.sqrt(2 / (9 * 64)), rtol=0.02)


def test_an_image_smaller_than_the_kernel_is_refused():
  conv = layers.Conv(1, 3, 2, "valid", use_bias=False, dtype="float32", lowering="direct")
  with pytest.raises(ConfigError, match="3x3 does not fit"):
    jax.eval_shape(conv.init, jax.random.key(0), np.ones((1, 2, 8, 1)))
