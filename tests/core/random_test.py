"""The local map, and keys: every draw is named by its words."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.core import mapping, random


def test_maps_agree():
  x = jnp.arange(12.0).reshape(3, 4)
  tree = {"a": x, "key": jax.random.split(jax.random.key(0), 3)}

  def fn(tree, i):
    noise = jax.random.normal(tree["key"], (4,))
    return {"sum": (tree["a"] * i).sum(), "noisy": (tree["a"] + noise, i)}

  outs = [
    jax.jit(lambda t, i, m=m: mapping.map_clients(m, fn, t, i))(tree, jnp.arange(3))
    for m in mapping.MAPS
  ]
  for out in outs:
    np.testing.assert_array_equal(out["sum"], [0, 22, 76])  # i times the sum of row i
    np.testing.assert_array_equal(out["noisy"][1], [0, 1, 2])
    chex.assert_trees_all_close(out, outs[0], rtol=1e-6)


def test_unknown_map():
  with pytest.raises(ValueError, match="pmap.*vmap"):
    mapping.map_clients("pmap", jnp.sin, jnp.ones(2))


def test_purposes_have_stable_numbers():
  assert random.purpose_id("123456789") == 0xCBF43926 & 0x7FFFFFFF  # CRC-32's check value


def test_every_word_of_a_client_key_matters():
  words = [(0, "a", 0, 0), (1, "a", 0, 0), (0, "b", 0, 0), (0, "a", 1, 0), (0, "a", 0, 1)]
  data = [tuple(jax.random.key_data(random.client_key(*w)).tolist()) for w in words]
  assert len(set(data)) == len(words)
  again = random.client_key(jnp.int32(0), "b", jnp.int32(0), jnp.int32(0))
  assert tuple(jax.random.key_data(again).tolist()) == data[2]


def test_every_word_of_a_host_generator_matters():
  words = [
    (0, "a", 1, 2),
    (1, "a", 1, 2),
    (0, "b", 1, 2),
    (0, "a", 2, 1),
    (0, "a", 1),
    ("a", 0, 1, 2),
  ]
  draws = [random.host_rng(*w).integers(2**62) for w in words]
  assert len(set(draws)) == len(words)
  assert random.host_rng(0, "a", 1, 2).integers(2**62) == draws[0]


def test_a_host_generator_tells_a_missing_word_from_zero():
  assert random.host_rng(0, "a").integers(2**62) != random.host_rng(0, "a", 0).integers(2**62)
