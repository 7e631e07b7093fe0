"""Small programs of every method, compiled for four TPU chips that are not here.

What a real compiler makes of them: memory, messages, what is multiplied in which dtype. libtpu
serves one process at a time, so these run by themselves: `python -m pytest tests/targets`.
"""

import os
import types

import ensembles
import pytest

from kdjax import experiment, plan
from kdjax.core.costs import nbytes
from kdjax.data import dataset
from kdjax.hardware import hlo, memory, target
from kdjax.hardware.cost import cost

pytest.importorskip("libtpu", reason="pip install '.[tpu]'")
if "PYTEST_XDIST_WORKER" in os.environ:
  pytest.skip("libtpu serves one process at a time: pytest tests/targets", allow_module_level=True)

target.prepare()
TARGET = target.parse("v5e:2x2")
DOUBLE = {"f64", "s64", "u64"}
CNN = ("cnn", dict(widths=(8, 8)))


def compiled(method, clients=((4, *ensembles.MLP),), target_=TARGET, **changes):
  """{phase: what it needs, costs, and which numbers it holds}."""
  c = ensembles.config(method, clients, dtype=changes.pop("dtype", "float32"), **changes)
  c.mesh.steps_per_dispatch = 1
  source, shards = ensembles.data(sum(n for n, *_ in c.clients), R=c.replicas)
  out = {}
  with target.compiling(target_) as devices:
    e = experiment.build(c, data=dataset.Data(source, source.train, shards), devices=list(devices))
    for visit in plan.first_visits(e):
      found = memory.compile(plan.lower(e, visit), target.options(target_))
      module = hlo.parse(found.program.as_text())
      dtypes = {x.dtype for one, *_ in module.runs() for x in one.result}
      out[visit.phase.name] = types.SimpleNamespace(
        need=found.need,
        cost=cost(module, target_),
        dtypes=dtypes,
        snapshot=max(nbytes(shapes) for shapes in e.env.snapshots()),
      )
  return out


def convolutions(phase):
  """{dtype: how many a call runs}."""
  out = {}
  for (kind, dtype, _), n in phase.cost.products.items():
    if kind == "convolution":
      out[dtype] = out.get(dtype, 0) + n
  return out


@pytest.fixture(scope="module")
def mhd():
  return compiled("mhd pool", ((4, *CNN),), norm="batch", dtype="bfloat16")


def test_a_step_of_mhd_sends_nothing_and_a_refresh_only_snapshots(mhd):
  assert mhd["train"].cost.collectives == {}
  assert set(mhd["refresh"].cost.collectives) == {"collective-permute"}


def test_mhd_multiplies_in_bfloat16_as_often_as_its_equations_say(mhd):
  """Two layers: passes of private, public and teachers' images; gradients of two passes.

  A gradient is one convolution for each kernel and one for the second layer's images.
  """
  teachers = 1
  passes, gradients = 2 + teachers, 2 * (2 + 1)
  assert convolutions(mhd["train"]) == {"bf16": 2 * passes + gradients}


def test_a_refresh_sends_each_snapshot_once_round_the_ring(mhd):
  """Three turns of four devices, each with a client's snapshot and its number."""
  ((number, sent),) = mhd["refresh"].cost.collectives.values()
  assert number == 6 and sent == 3 * (mhd["refresh"].snapshot + 4)


def test_numbers_are_no_wider_than_they_must_be(mhd):
  for phase in mhd.values():
    assert not phase.dtypes & DOUBLE and phase.need < 8 * 2**20


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
  found = compiled(method)
  assert {name: set(p.cost.collectives) for name, p in found.items()} == MESSAGES[method]
  assert all(p.need < 8 * 2**20 for p in found.values())
  assert not any(p.dtypes & DOUBLE for p in found.values())


@pytest.mark.parametrize("name, number", [("v5e:1x1", 1), ("v5e:1x2", 2), ("v4:1x1x1", 1)])
def test_fewer_chips_than_a_host_has_are_known(name, number):
  assert len(target.devices(target.parse(name))) == number
