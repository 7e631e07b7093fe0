"""Small programs, compiled for four H100 that are not here, where the CUDA plug-in is installed."""

import importlib.util

import compiling
import pytest

from kdjax.hardware import target

if importlib.util.find_spec("jax_cuda12_plugin") is None:
  pytest.skip("pip install '.[cuda12]'", allow_module_level=True)

target.prepare()
TARGET = target.parse("h100:4")
LAUNCHES = 200  # of MHD's step; 128 with jax 0.10.2, and one a client and operation were 4 times so


def compiled(method):
  return compiling.compiled(method, ((4, *compiling.CNN),), TARGET, norm="batch", dtype="bfloat16")


@pytest.fixture(scope="module")
def mhd():
  return compiled("mhd pool")


def test_a_step_of_mhd_sends_nothing_and_a_refresh_only_snapshots(mhd):
  assert mhd["train"].cost.collectives == {}
  assert set(mhd["refresh"].cost.collectives) == {"collective-permute"}


def test_a_step_of_mhd_is_few_launches(mhd):
  assert 0 < mhd["train"].cost.launches < LAUNCHES


def test_mhd_multiplies_in_bfloat16_as_often_as_its_equations_say(mhd):
  compiling.check_convolutions(mhd, {"train": compiling.MHD_TRAIN, "refresh": 0})


@pytest.mark.parametrize("method", ["fedavg", "fedgkt"])
def test_methods_multiply_in_bfloat16_as_often_as_their_equations_say(method):
  compiling.check_convolutions(compiled(method), compiling.CONVOLUTIONS[method])
