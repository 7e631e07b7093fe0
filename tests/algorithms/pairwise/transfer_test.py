"""Transfer maps against NumPy: what they leave alone, what they take over, and where."""

import chex
import jax
import numpy as np
import pytest

from kdjax.algorithms.pairwise import layers, transfer

KEY = jax.random.key(0)
N, OUT = 5, 3
EYE, ZERO = np.eye(N), np.zeros((N, N))


@pytest.fixture(autouse=True)
def float64():
  with jax.enable_x64(True):
    yield


def draw(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape)


def combine(own, found, map):
  return transfer.combine(own, found, map, np.ones(len(found), bool))


def test_a_no_op_leaves_the_target_bit_for_bit_as_it_is():
  """U1: M = [0; I]."""
  own, found = draw(N, OUT), draw(2, N, OUT, seed=1)
  map = transfer.first(KEY, N, start=0.0, noise=0.0, dtype="float64")
  chex.assert_trees_all_equal(map, np.concatenate([ZERO, EYE]))
  chex.assert_trees_all_equal(combine(own, found, map), own)


@pytest.mark.parametrize("start", [0.1, 0.5, 1.0])
def test_a_map_may_begin_between_the_target_and_the_mean_of_its_sources(start):
  own, found = draw(N, OUT), draw(2, N, OUT, seed=1)
  map = transfer.first(KEY, N, start=start, noise=0.0, dtype="float64")
  expected = start * (found[0] + found[1]) / 2 + (1 - start) * own
  chex.assert_trees_all_close(combine(own, found, map), expected, rtol=1e-12, atol=1e-12)


def test_maps_can_take_the_source_or_the_average():
  """U1 and U2: [I; 0], [I/2; I/2], and [A; I - A] where both layers are the same."""
  own, found = draw(N, OUT), draw(1, N, OUT, seed=1)
  close = lambda new, old: chex.assert_trees_all_close(new, old, rtol=1e-12, atol=1e-12)
  close(combine(own, found, np.concatenate([EYE, ZERO])), found[0])
  close(combine(own, found, np.concatenate([EYE, EYE]) / 2), (own + found[0]) / 2)
  a = draw(N, N, seed=2)
  close(combine(own, own[None], np.concatenate([a, EYE - a])), own)


@pytest.mark.parametrize("kernel", [(N, OUT), (3, 3, N, OUT)], ids=["dense", "convolution"])
def test_several_sources_count_in_the_mean(kernel):
  """Eq. 2 as the paper writes it, W = K^T, [W_a, W_b] M, at every place of a convolution."""
  own, found, map = draw(*kernel), draw(3, *kernel, seed=1), draw(2 * N, N, seed=2)
  new = transfer.combine(own, found, map, np.array([True, False, True]))
  for place in np.ndindex(kernel[:-2]):
    w = own[place].T
    expected = np.mean([np.concatenate([found[(s, *place)].T, w], 1) @ map for s in (0, 2)], 0)
    chex.assert_trees_all_close(new[place].T, expected, rtol=1e-12, atol=1e-12)
  alone = transfer.combine(own, found, map, np.zeros(3, bool))
  chex.assert_trees_all_equal(alone, own)


def test_noise_on_a_map_has_its_standard_deviation():
  begin = dict(start=0.0, dtype="float64")
  noise = transfer.first(KEY, 70, noise=0.02, **begin) - transfer.first(KEY, 70, noise=0.0, **begin)
  n = noise.size
  assert abs(np.std(noise) / 0.02 - 1) < 4 / np.sqrt(2 * n)
  assert abs(np.mean(noise)) < 4 * 0.02 / np.sqrt(n)


def test_the_codes_map_is_one_linear_layer_on_all_sources_and_the_target():
  own, found = draw(N, OUT), draw(2, N, OUT, seed=1)
  map = transfer.random(KEY, N, 2, dtype="float64")
  assert map.shape == (3 * N + 1, N) and np.abs(map).max() <= 1 and np.std(map) > 0.5
  w = np.concatenate([found[0].T, found[1].T, own.T], axis=1)  # as PyTorch stores it
  expected = (w @ map[:-1] + map[-1]) / np.sqrt(3 * N)
  new = transfer.overwrite(own, found, map, np.array([True, True]))
  chex.assert_trees_all_close(new.T, expected, rtol=1e-12, atol=1e-12)
  one = transfer.overwrite(own, found, map, np.array([True, False]))
  w = np.concatenate([found[0].T, own.T], axis=1)
  weight = np.concatenate([map[:N], map[2 * N : 3 * N]])
  chex.assert_trees_all_close(one.T, (w @ weight + map[-1]) / np.sqrt(2 * N), rtol=1e-12)
  alone = transfer.overwrite(own, found, map, np.array([False, False]))
  chex.assert_trees_all_equal(alone, own)


def test_the_gradient_reaches_the_map():
  """U5: the rewritten layer is part of the graph."""
  own, found, x = draw(N, OUT), draw(2, N, OUT, seed=1), draw(7, N, seed=2)
  map = transfer.first(KEY, N, start=0.0, noise=0.0, dtype="float64")
  gradient = jax.grad(lambda map: (x @ combine(own, found, map))[:, 0].sum())(map)
  both = np.concatenate([found.mean(0)[:, 0], own[:, 0]])  # [2n]
  chex.assert_trees_all_close(gradient, both[:, None] * x.sum(0), rtol=1e-12)
  assert np.abs(gradient).sum() > 0


def test_kernels_are_found_and_replaced_by_their_paths():
  params = {
    "Dense_0": {"kernel": draw(2, 2), "bias": draw(2)},
    "heads": {"main": {"kernel": draw(2, 3)}, "norm": {"scale": draw(2)}},
  }
  found = layers.named_kernels(params)
  assert set(found) == {"Dense_0", "heads/main"}
  new = layers.replace(params, {"heads/main": draw(2, 3, seed=1)})
  chex.assert_trees_all_equal(new["heads"]["main"]["kernel"], draw(2, 3, seed=1))
  chex.assert_trees_all_equal(layers.named_kernels(params), found)
  params["heads"]["main"] = new["heads"]["main"]
  chex.assert_trees_all_equal(new, params)
