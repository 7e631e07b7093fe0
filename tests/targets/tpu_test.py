"""Small programs of every method, compiled for four TPU chips that are not here.

What a real compiler makes of them: memory, messages, what is multiplied in which dtype. libtpu
serves one process at a time, so these run by themselves: `python -m pytest tests/targets`.
"""

import os

import compiling
import ensembles
import pytest

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
