"""Small experiments, compiled for devices that are not here."""

import types

import ensembles

from kdjax import experiment, plan
from kdjax.core.costs import nbytes
from kdjax.data import dataset
from kdjax.hardware import hlo, memory, target
from kdjax.hardware.cost import cost

DOUBLE = {"f64", "s64", "u64"}
CNN = ("cnn", dict(widths=(8, 8)))


def compiled(method, clients, where, **changes):
  """{phase: what it needs, costs, and which numbers it holds}, on a target of four devices."""
  c = ensembles.config(method, clients, dtype=changes.pop("dtype", "float32"), **changes)
  c.mesh.steps_per_dispatch = 1
  source, shards = ensembles.data(sum(n for n, *_ in c.clients), R=c.replicas)
  out = {}
  with target.compiling(where) as devices:
    e = experiment.build(c, data=dataset.Data(source, source.train, shards), devices=list(devices))
    for visit in plan.first_visits(e):
      found = memory.compile(plan.lower(e, visit), target.options(where))
      module = hlo.parse(found.program.as_text())
      out[visit.phase.name] = types.SimpleNamespace(
        need=found.need,
        cost=cost(module, where),
        dtypes={x.dtype for one, *_ in module.runs() for x in one.result},
        snapshot=max(nbytes(shapes) for shapes in e.env.snapshots()),
      )
  return out


def bfloat16(method, where):
  """The programs of four small convolutional networks."""
  return compiled(method, ((4, *CNN),), where, norm="batch", dtype="bfloat16")


def convolutions(phase):
  """{dtype: how many a call runs}."""
  out = {}
  for (kind, dtype, _), n in phase.cost.products.items():
    if kind == "convolution":
      out[dtype] = out.get(dtype, 0) + n
  return out


# Of two layers: a pass, its gradients (one for each kernel, and for the second layer's images).
PASS, GRADIENTS = 2, 3
CONVOLUTIONS = {  # in a call of a phase, as a method's equations say
  "fedavg": {"train": PASS + GRADIENTS, "average": 0},
  "fedgkt": {"edge": PASS + GRADIENTS, "upload": PASS, "server": 0},  # its server has none here
  "pairwise": {"local": PASS + GRADIENTS, "fetch": 0},
  "async edge": {"core training": PASS + GRADIENTS, "edge": 2 * (PASS + GRADIENTS)},  # two models
}
MHD_TRAIN = 3 * PASS + 2 * GRADIENTS  # private, public and a teacher's passes; of two, gradients


def check_convolutions(found, expected):
  """In bfloat16, and as many as are expected."""
  for name, n in expected.items():
    assert convolutions(found[name]) == ({"bf16": n} if n else {}), name
  assert all(set(convolutions(phase)) <= {"bf16"} for phase in found.values())
  assert not any(phase.dtypes & DOUBLE for phase in found.values())


def check_refresh(mhd, where):
  """Each snapshot goes as far as edges go: on a complete graph past all others, on a cycle to one.

  Four devices have a client each.
  """
  cycle = dict(ensembles.config("mhd pool").graph, kind="cycle")
  clients = ((4, "mlp", dict(hidden=(8,), activation="tanh")),)
  next_one = compiled("mhd pool", clients, where, graph=cycle, algo_teachers=1)
  for found, hops in ((mhd, 3), (next_one, 1)):
    ((number, sent),) = found["refresh"].cost.collectives.values()
    assert number == hops and sent == hops * found["refresh"].snapshot


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


def check_messages(found, expected):
  """What is expected is sent, and nothing else."""
  assert {name: set(p.cost.collectives) for name, p in found.items()} == expected
  check_size(found)


def check_size(found):
  """Small programs need little memory, and no numbers of 64 bits."""
  assert all(p.need < 8 * 2**20 for p in found.values())
  assert not any(p.dtypes & DOUBLE for p in found.values())
