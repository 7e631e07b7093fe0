"""Targets are files; what is wrong with one is said before anything is compiled."""

import math
import types

import pytest

from kdjax.hardware import target
from kdjax.types import ConfigError


def test_every_file_that_comes_with_kdjax_is_whole():
  assert {"a100", "h100", "h200", "v4", "v5e", "v5p", "v6e"} <= set(target.files())
  for name in target.files():
    found = target.parse(f"{name}:4")
    assert found.size == 4 and found.memory > 2**33 and found.peak["bfloat16"] > 1e14


def test_a_torus_has_as_many_devices_as_its_sides_multiply_to():
  assert target.parse("v5p:2x4x4").size == 32


@pytest.mark.parametrize("name", ["v5e", "v5e:", "v5e:2x", "v5e:0x4", "v9:2x2", ":4", "no.toml:2"])
def test_a_name_that_is_none_is_refused_with_what_there_is(name):
  with pytest.raises(ConfigError) as refused:
    target.parse(name)
  assert refused.value.key == "--target"


OWN = """
kind = "gpu"
description = "Mine"
memory_gib = 10
bandwidth_gbs = 500
tflops = { float32 = 10 }
link_gbs = 20
launch_us = 5.0
[compiler]
capability = "8.6"
"""


def test_ones_own_file(tmp_path):
  path = tmp_path / "mine.toml"
  path.write_text(OWN)
  found = target.parse(f"{path}:2")
  assert (found.size, found.kind, found.memory, found.peak) == (
    2,
    "gpu",
    7.5 * 2**30,  # JAX takes three quarters
    {"float32": 1e13},
  )
  assert found.graph_launch == found.launch == pytest.approx(5e-6)
  assert found.host == math.inf and found.network == found.link


def test_a_card_gives_what_jax_is_told_to_take(monkeypatch):
  monkeypatch.setenv("XLA_CLIENT_MEM_FRACTION", ".9")
  assert target.parse("h100:1").memory == pytest.approx(0.9 * 79.14 * 2**30)
  assert target.parse("v5e:1x1").memory == 15.75 * 2**30
  monkeypatch.setenv("XLA_CLIENT_MEM_FRACTION", "90%")
  with pytest.raises(ConfigError, match="XLA_CLIENT_MEM_FRACTION.*90%.*such as 0.9"):
    target.parse("h100:1")


def test_a_card_that_no_file_knows_is_described_in_ones_own_folder(tmp_path, monkeypatch):
  card = types.SimpleNamespace(device_kind="Mine")
  assert target.of(card) is None
  (tmp_path / "mine.toml").write_text(OWN)
  monkeypatch.setenv("KDJAX_TARGETS", str(tmp_path))
  assert target.of(card).name == "mine:1" and target.parse("mine:4").size == 4
  assert {"h100", "mine"} <= set(target.files())


def test_ones_own_file_goes_before_what_comes_with_kdjax(tmp_path, monkeypatch):
  shipped = target.files()["h100"].read_text()
  (tmp_path / "slower.toml").write_text(
    shipped.replace("bandwidth_gbs = 3352", "bandwidth_gbs = 2")
  )
  monkeypatch.setenv("KDJAX_TARGETS", str(tmp_path))
  card = types.SimpleNamespace(device_kind="NVIDIA H100 80GB HBM3")
  assert target.of(card).bandwidth == 2e9


@pytest.mark.parametrize(
  "old, new, said",
  [
    ('kind = "gpu"', 'kind = "npu"', "must be tpu or gpu"),
    ("memory_gib = 10\n", "", "memory_gib"),
    ("launch_us = 5.0", 'launch_us = "5"', "launch_us"),
    ('[compiler]\ncapability = "8.6"', "", "compiler needs the GPU"),
    ('capability = "8.6"', "core_count = 8", "compiler needs the GPU"),
    ('capability = "8.6"', 'capability = "new"', "compiler.capability = 'new'"),
    ('capability = "8.6"', "capability = 8.6", "compiler.capability = 8.6"),
    ("memory_gib", "memory_gb", "memory_gb = 10: no such entry"),
    ("memory_gib = 10", "memory_gib = 0", "memory_gib = 0: must be a number, above 0"),
    ("bandwidth_gbs = 500", "bandwidth_gbs = -1", "bandwidth_gbs = -1: must be"),
    ("link_gbs = 20", "link_gbs = nan", "link_gbs = nan: must be"),
    ("link_gbs = 20", "link_gbs = true", "link_gbs = True: must be"),
    ("launch_us = 5.0", "launch_us = -5.0", "launch_us = -5.0: must be a number, 0 or more"),
    ("{ float32 = 10 }", "{ float32 = 10, bfloat16 = 'fast' }", "tflops.bfloat16 = 'fast'"),
    ("{ float32 = 10 }", "{ float32 = 0 }", "tflops.float32 = 0: must be a number, above 0"),
    ("launch_us", "megacore = 'yes'\nlaunch_us", "megacore = 'yes': must be there, a bool"),
    ("float32 = 10", "float16 = 10", "must have float32"),
    ("link_gbs = 20", "link_gbs = ", "cannot be read"),
  ],
)
def test_a_file_that_is_not_whole_is_refused_by_its_key(old, new, said, tmp_path):
  path = tmp_path / "mine.toml"
  path.write_text(OWN.replace(old, new))
  with pytest.raises(ConfigError, match=said):
    target.parse(f"{path}:2")
