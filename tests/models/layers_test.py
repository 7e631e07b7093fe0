"""Norms, dropout and pooling against plain NumPy, and against themselves on a split batch."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec
from noise import rng

from kdjax.models import layers
from kdjax.types import ConfigError


def on_mesh(fn, data=1):
  """`fn(batch_split, replicated)` on a mesh (1, data); its outputs come stacked, a row a device."""
  auto = (jax.sharding.AxisType.Auto,) * 2
  mesh = jax.make_mesh((1, data), ("client", "data"), auto, devices=jax.devices()[:data])
  split = PartitionSpec("data")
  return jax.jit(
    jax.shard_map(
      lambda *args: jax.tree.map(lambda x: x[None], fn(*args)),
      mesh=mesh,
      in_specs=(split, PartitionSpec()),
      out_specs=split,
      check_vma=False,
    )
  )


def whole(rows):
  """[devices, B / devices, ...] -> [B, ...]."""
  return np.asarray(rows).reshape(-1, *rows.shape[2:])


# Normalisation


def numpy_batch_norm(x, mask, scale, bias):
  """(output of the unmasked examples, mean, variance)."""
  live = x[mask > 0].astype(np.float64)
  axes = tuple(range(x.ndim - 1))
  mean, var = live.mean(axes), live.var(axes)
  return (live - mean) / np.sqrt(var + 1e-5) * scale + bias, mean, var


def batch_norm_step(module, variables, train=True):
  def step(batch, variables):
    y, changed = module.apply(variables, batch["x"], train, batch["mask"], mutable=["batch_stats"])
    return y, changed["batch_stats"]

  return lambda batch, data=1: on_mesh(step, data)(batch, variables)


@pytest.fixture
def variables():
  return {
    "params": {"scale": np.float32([1, 2, 3]), "bias": np.float32([0.5, -1, 0])},
    "batch_stats": {"mean": np.float32([1, 1, 1]), "var": np.float32([2, 2, 2])},
  }


@pytest.mark.parametrize("shape", [(6, 3), (6, 4, 5, 3)])
def test_batch_norm_counts_unmasked_examples_only(shape, variables):
  x = rng.normal(2, 3, shape).astype(np.float32)
  mask = np.float32([1, 0, 1, 1, 0, 1])
  x[mask == 0] = np.inf
  params = variables["params"]
  y, stats = batch_norm_step(layers.BatchNorm("float32"), variables)({"x": x, "mask": mask})
  right, mean, var = numpy_batch_norm(x, mask, params["scale"], params["bias"])
  np.testing.assert_allclose(y[0][mask > 0], right, rtol=1e-5, atol=1e-5)
  np.testing.assert_array_equal(y[0][mask == 0] - params["bias"], 0)
  np.testing.assert_allclose(stats["mean"][0], 0.9 * 1 + 0.1 * mean, rtol=1e-5)
  np.testing.assert_allclose(stats["var"][0], 0.9 * 2 + 0.1 * var, rtol=1e-5)


def test_batch_norm_without_a_mask_counts_all(variables):
  x = rng.normal(size=(6, 4, 5, 3)).astype(np.float32)
  module = layers.BatchNorm("float32", axes=())  # nothing to sum over: no mesh is needed
  y, _ = module.apply(variables, x, True, None, mutable=["batch_stats"])
  params = variables["params"]
  right, _, _ = numpy_batch_norm(x, np.ones(6), params["scale"], params["bias"])
  np.testing.assert_allclose(y, right, rtol=1e-5, atol=1e-5)


def test_batch_norm_in_evaluation_uses_running_statistics(variables):
  x = rng.normal(size=(2, 3)).astype(np.float32)
  y = layers.BatchNorm("float32").apply(variables, x, False, None)
  right = (x - 1) / np.sqrt(2 + 1e-5) * [1, 2, 3] + [0.5, -1, 0]
  np.testing.assert_allclose(y, right, rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_batch_norm_variance_survives_a_large_mean(dtype, variables):
  x = rng.integers(-1, 2, (64, 3)).astype(np.float32) + 256  # exact in bfloat16 only to 256
  x = np.minimum(x, 256) if dtype == "bfloat16" else x + 16_000
  ones = np.ones(64, np.float32)
  batch = {"x": jnp.asarray(x, dtype), "mask": ones}
  y, stats = batch_norm_step(layers.BatchNorm(dtype), variables)(batch)
  _, mean, var = numpy_batch_norm(x, ones, 1, 0)
  assert y.dtype == dtype and stats["var"].dtype == jnp.float32
  np.testing.assert_allclose(stats["mean"][0], 0.9 + 0.1 * mean, rtol=1e-6)
  np.testing.assert_allclose(stats["var"][0], 1.8 + 0.1 * var, rtol=1e-5)


def test_batch_norm_of_nothing_is_finite_and_leaves_the_statistics(variables):
  module = layers.BatchNorm("float32")

  def step(x, variables):
    def loss(params, x):
      v = variables | {"params": params}
      y, changed = module.apply(v, x, True, jnp.zeros(4), mutable=["batch_stats"])
      return (y**2).sum(), changed["batch_stats"]

    return jax.value_and_grad(loss, (0, 1), has_aux=True)(variables["params"], x)

  (loss, stats), grads = on_mesh(step)(np.ones((4, 2, 2, 3), np.float32), variables)
  chex.assert_tree_all_finite((loss, grads))
  chex.assert_trees_all_equal(
    jax.tree.map(lambda s: s[0], stats), jax.tree.map(jnp.asarray, variables["batch_stats"])
  )


def test_batch_norm_of_a_split_batch_equals_that_of_the_whole():
  mask = np.float32([1, 1, 1, 0, 0, 0, 1, 0])  # of four devices the third has nothing

  def step(batch, variables):
    module = layers.BatchNorm("float64")

    def share(params, x):
      v = variables | {"params": params}
      y, changed = module.apply(v, x, True, batch["mask"], mutable=["batch_stats"])
      value = (jnp.sin(y).sum((1, 2, 3)) * batch["mask"]).sum()
      return value, (y, changed["batch_stats"])

    grad = jax.grad(share, (0, 1), has_aux=True)
    (params, x), (y, stats) = grad(variables["params"], batch["x"])
    return y, x, stats, jax.lax.psum(params, "data")

  with jax.enable_x64(True):
    x = rng.normal(size=(8, 2, 3, 3))
    variables = layers.BatchNorm("float64").init(jax.random.key(0), x, True, None)
    one, two, four = (on_mesh(step, n)({"x": x, "mask": mask}, variables) for n in (1, 2, 4))
  for split in (two, four):
    for a, b in zip(split[:2], one[:2], strict=True):
      np.testing.assert_allclose(whole(a), whole(b), rtol=1e-12, atol=1e-14)
    for a, b in zip(jax.tree.leaves(split[2:]), jax.tree.leaves(one[2:]), strict=True):
      np.testing.assert_allclose(a, np.broadcast_to(b, a.shape), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
  "channels, groups", [(512, 32), (128, 32), (64, 16), (16, 4), (48, 8), (12, 2), (6, 1), (3, 1)]
)
def test_group_count_leaves_four_channels_a_group(channels, groups):
  assert layers.group_count(channels) == groups


@pytest.mark.parametrize("kind, groups", [("group", 2), ("layer", None)])
def test_group_and_layer_norm(kind, groups):
  x = rng.normal(5, 2, (3, 2, 2, 8)).astype(np.float32)
  x[0] += 10_000  # a one-pass variance would cancel

  class Net(layers.nn.Module):
    @layers.nn.compact
    def __call__(self, x):
      return layers.norm(kind, "float32", ())(x, True, None)

  y, _ = Net().init_with_output(jax.random.key(0), x)
  parts = x.astype(np.float64).reshape((3, 2, 2, groups, 4) if groups else x.shape)
  axes = (1, 2, 4) if groups else (3,)
  mean, var = parts.mean(axes, keepdims=True), parts.var(axes, keepdims=True)
  right = ((parts - mean) / np.sqrt(var + 1e-5)).reshape(x.shape)
  np.testing.assert_allclose(y, right, atol=2e-3)


def test_no_norm_is_the_identity_and_others_are_refused():
  assert layers.norm("none", "float32", ())("x", True, None) == "x"
  with pytest.raises(ConfigError, match="norm = 'instance'.*'group'"):
    layers.norm("instance", "float32", ())
  with pytest.raises(ConfigError, match="dtype = 'float16'"):
    layers.wide_dtype("float16")


# Dropout and pooling


def dropped(rate, x, data=1, train=True):
  drop = lambda x, key: layers.Dropout(rate).apply({}, x, train, rngs={"dropout": key})
  return whole(on_mesh(drop, data)(x, jax.random.key(3)))


def test_dropout_scales_what_it_keeps_and_differs_between_examples():
  y = dropped(0.25, np.ones((8, 400), np.float32))
  np.testing.assert_allclose(np.unique(y), [0, 4 / 3], rtol=1e-6)
  assert abs((y == 0).mean() - 0.25) < 0.04  # five standard deviations
  assert len(np.unique(y, axis=0)) == 8


def test_dropout_does_not_depend_on_the_data_axis():
  x = rng.normal(size=(8, 3, 3, 2)).astype(np.float32)
  one = dropped(0.5, x)
  np.testing.assert_array_equal(dropped(0.5, x, data=2), one)
  np.testing.assert_array_equal(dropped(0.5, x, data=4), one)


def test_dropout_is_the_identity_in_evaluation_and_at_rate_zero():
  x = rng.normal(size=(4, 5)).astype(np.float32)
  np.testing.assert_array_equal(dropped(0.5, x, train=False), x)
  np.testing.assert_array_equal(dropped(0.0, x), x)
  with pytest.raises(ConfigError, match="dropout = 1"):
    layers.Dropout(1.0).apply({}, x, False)


@pytest.mark.parametrize("size", [(7, 8), (8, 5)])
def test_max_pool_and_its_gradient(size):
  x = rng.permutation(2 * size[0] * size[1] * 3).reshape(2, *size, 3).astype(np.float32) - 1000
  padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
  rows, columns = -(-size[0] // 2), -(-size[1] // 2)
  right = [
    [padded[:, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3].max((1, 2)) for j in range(columns)]
    for i in range(rows)
  ]
  np.testing.assert_array_equal(layers.max_pool_3x3_s2(x), np.moveaxis(np.array(right), 2, 0))

  def windowed(x):
    padding = ((0, 0), (1, 1), (1, 1), (0, 0))
    return jax.lax.reduce_window(x, -np.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), padding)

  grad = lambda pool: jax.jit(jax.grad(lambda x: (pool(x) ** 2).sum()))
  np.testing.assert_array_equal(grad(layers.max_pool_3x3_s2)(x), grad(windowed)(x))
  assert "select-and-scatter" not in grad(layers.max_pool_3x3_s2).lower(x).compile().as_text()


def test_avg_pool_counts_pixels_only():
  x = np.arange(1.0, 10.0, dtype=np.float32).reshape(1, 3, 3, 1)
  same = layers.avg_pool(x, 2, 1, "same")[0, ..., 0]
  np.testing.assert_allclose(same, [[3, 4, 4.5], [6, 7, 7.5], [7.5, 8.5, 9]])
  np.testing.assert_allclose(layers.avg_pool(x, 2, 2, "valid"), [[[[3]]]])
