"""Small programs of every method, compiled for four H100 that are not here.

They run where the CUDA plug-in is installed.
"""

import importlib.util

import compiling
import ensembles
import pytest

from kdjax.hardware import target

if importlib.util.find_spec("jax_cuda12_plugin") is None:
  pytest.skip("pip install '.[cuda12]'", allow_module_level=True)

target.prepare()
TARGET = target.parse("h100:4")
LAUNCHES = 200  # of a phase; 128 at most with jax 0.10.2, and one a client and operation were more
# A GPU's clients are one batched program: the two models at an edge share grouped convolutions.
CONVOLUTIONS = compiling.CONVOLUTIONS | {
  "async edge": {
    "core training": compiling.PASS + compiling.GRADIENTS,
    "edge": compiling.PASS + compiling.GRADIENTS,
  },
}
MESSAGES = compiling.MESSAGES | {  # a server's share of a sum is a message of its own kind
  "fedgkt": compiling.MESSAGES["fedgkt"]
  | {"server": compiling.SUM | compiling.ALL | {"reduce-scatter"}},
}


@pytest.fixture(scope="module")
def mhd():
  return compiling.bfloat16("mhd pool", TARGET)


def test_a_step_of_mhd_sends_nothing_and_a_refresh_only_snapshots(mhd):
  assert mhd["train"].cost.collectives == {}
  assert set(mhd["refresh"].cost.collectives) == {"collective-permute"}


def check_launches(found):
  assert all(0 < phase.cost.launches < LAUNCHES for phase in found.values())


def test_mhd_multiplies_in_bfloat16_as_often_as_its_equations_say(mhd):
  compiling.check_convolutions(mhd, {"train": compiling.MHD_TRAIN, "refresh": 0})
  check_launches(mhd)


@pytest.mark.parametrize("method", CONVOLUTIONS)
def test_methods_multiply_in_bfloat16_as_often_as_their_equations_say(method):
  found = compiling.bfloat16(method, TARGET)
  compiling.check_convolutions(found, CONVOLUTIONS[method])
  check_launches(found)


def test_a_refresh_sends_each_snapshot_as_far_as_edges_go(mhd):
  compiling.check_refresh(mhd, TARGET)


def test_numbers_are_no_wider_than_they_must_be(mhd):
  compiling.check_size(mhd)


@pytest.mark.parametrize("method", MESSAGES)
def test_methods_send_what_they_say_and_nothing_else(method):
  found = compiling.compiled(method, ((4, *ensembles.MLP),), TARGET)
  compiling.check_messages(found, MESSAGES[method])
