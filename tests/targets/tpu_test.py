"""Small programs of every method, compiled for four TPU chips that are not here.

What a real compiler makes of them: memory, messages, what is multiplied in which dtype. libtpu
serves one process at a time, so these run by themselves: `python -m pytest tests/targets`.
"""

import os

import compiling
import ensembles
import jax
import jax.numpy as jnp
import pytest

from kdjax.core import snapshots
from kdjax.hardware import target

pytest.importorskip("libtpu", reason="pip install '.[tpu]'")
if "PYTEST_XDIST_WORKER" in os.environ:
  pytest.skip("libtpu serves one process at a time: pytest tests/targets", allow_module_level=True)

target.prepare()
TARGET = target.parse("v5e:2x2")


@pytest.fixture(scope="module")
def mhd():
  return compiling.bfloat16("mhd pool", TARGET)


def test_a_step_of_mhd_sends_nothing_and_a_refresh_only_snapshots(mhd):
  assert mhd["train"].cost.collectives == {}
  assert set(mhd["refresh"].cost.collectives) == {"collective-permute"}


def test_mhd_multiplies_in_bfloat16_as_often_as_its_equations_say(mhd):
  compiling.check_convolutions(mhd, {"train": compiling.MHD_TRAIN, "refresh": 0})


@pytest.mark.parametrize("method", compiling.CONVOLUTIONS)
def test_methods_multiply_in_bfloat16_as_often_as_their_equations_say(method):
  found = compiling.bfloat16(method, TARGET)
  compiling.check_convolutions(found, compiling.CONVOLUTIONS[method])


def test_a_refresh_sends_each_snapshot_as_far_as_edges_go(mhd):
  compiling.check_refresh(mhd, TARGET)


def test_numbers_are_no_wider_than_they_must_be(mhd):
  compiling.check_size(mhd)


@pytest.mark.parametrize("method", compiling.MESSAGES)
def test_methods_send_what_they_say_and_nothing_else(method):
  found = compiling.compiled(method, ((4, *ensembles.MLP),), TARGET)
  compiling.check_messages(found, compiling.MESSAGES[method])


@pytest.mark.parametrize("name, number", [("v5e:1x1", 1), ("v5e:1x2", 2), ("v4:1x1x1", 1)])
def test_fewer_chips_than_a_host_has_are_known(name, number):
  assert len(target.devices(target.parse(name))) == number


def test_a_leaf_is_taken_out_of_a_snapshot_before_it_gets_its_shape():
  """Not the whole vector, which a TPU pads to 128 columns, is reshaped to two classes."""
  layer = lambda n, m: {"bias": jnp.zeros(m), "kernel": jnp.zeros((n, m))}
  template = [layer(64, 2), layer(200, 64)]
  length = sum(x.size for x in jax.tree.leaves(template))

  def answer(snapshot, x):
    last, first = snapshots.unflatten(snapshot, template)
    return (x @ first["kernel"] + first["bias"]) @ last["kernel"] + last["bias"]

  def answers(flat, x):  # in turn, as clients do, and of nobody where the first number is 0
    nobody = lambda snapshot, x: jnp.zeros((8, 2))
    one = lambda pair: jax.lax.cond(pair[1][0, 0] > 0, answer, nobody, *pair)
    return jax.lax.map(one, (flat, x))

  with target.compiling(TARGET) as devices:
    place = jax.sharding.SingleDeviceSharding(devices[0])
    shapes = (3, length), (3, 8, 200)
    flat, x = (jax.ShapeDtypeStruct(s, jnp.float32, sharding=place) for s in shapes)
    text = jax.jit(answers).lower(flat, x).compile().as_text()
  assert f"[{length // 2},2]" not in text
