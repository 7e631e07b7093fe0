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
  return compiling.compiled(
    "mhd pool", ((4, *compiling.CNN),), TARGET, norm="batch", dtype="bfloat16"
  )


def test_a_step_of_mhd_sends_nothing_and_a_refresh_only_snapshots(mhd):
  assert mhd["train"].cost.collectives == {}
  assert set(mhd["refresh"].cost.collectives) == {"collective-permute"}


def test_mhd_multiplies_in_bfloat16_as_often_as_its_equations_say(mhd):
  compiling.check_convolutions(mhd, {"train": compiling.MHD_TRAIN, "refresh": 0})


@pytest.mark.parametrize("method", compiling.CONVOLUTIONS)
def test_methods_multiply_in_bfloat16_as_often_as_their_equations_say(method):
  found = compiling.compiled(method, ((4, *compiling.CNN),), TARGET, norm="batch", dtype="bfloat16")
  compiling.check_convolutions(found, compiling.CONVOLUTIONS[method])


def test_a_refresh_sends_each_snapshot_as_far_as_edges_go(mhd):
  """Four devices, a client each: on a complete graph past the three others, on a cycle to one."""
  cycle = dict(ensembles.config("mhd pool").graph, kind="cycle")
  clients = ((4, "mlp", dict(hidden=(8,), activation="tanh")),)
  next_one = compiling.compiled("mhd pool", clients, TARGET, graph=cycle, algo_teachers=1)
  for found, hops in ((mhd, 3), (next_one, 1)):
    ((number, sent),) = found["refresh"].cost.collectives.values()
    assert number == hops and sent == hops * found["refresh"].snapshot


def test_numbers_are_no_wider_than_they_must_be(mhd):
  for phase in mhd.values():
    assert not phase.dtypes & compiling.DOUBLE and phase.need < 8 * 2**20


NONE: set[str] = set()
SUM, COPY, ALL = {"all-reduce"}, {"collective-permute"}, {"all-gather"}
MESSAGES = {  # of four devices that share clients, or their batches where there are fewer clients
  "fedavg": {"train": NONE, "average": SUM},
  "pairwise": {"local": NONE, "fetch": COPY, "transfer": NONE},
  "fedgkt": {"edge": NONE, "upload": NONE, "server": SUM | ALL, "drift": SUM},
  "async edge": {  # one core, two models at an edge: batches are shared
    "core training": SUM,
    "dispatch": NONE,
    "edge": SUM | ALL,  # labels to be permuted
    "collect": NONE,
    "distil": SUM,
  },
}


@pytest.mark.parametrize("method", MESSAGES)
def test_methods_send_what_they_say_and_nothing_else(method):
  found = compiling.compiled(method, ((4, *ensembles.MLP),), TARGET)
  assert {name: set(p.cost.collectives) for name, p in found.items()} == MESSAGES[method]
  assert all(p.need < 8 * 2**20 for p in found.values())
  assert not any(p.dtypes & compiling.DOUBLE for p in found.values())


@pytest.mark.parametrize("name, number", [("v5e:1x1", 1), ("v5e:1x2", 2), ("v4:1x1x1", 1)])
def test_fewer_chips_than_a_host_has_are_known(name, number):
  assert len(target.devices(target.parse(name))) == number
