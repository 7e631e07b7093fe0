"""Suite `maps`: the forms in which a device can run its clients; `--record` keeps the times."""

import csv
import itertools
import statistics
from pathlib import Path

import kdjax
from benchmarks import options as sides
from benchmarks import tables
from benchmarks.contest import Contest
from benchmarks.settings import MACS
from kdjax import layout
from kdjax.core.machine import cores

TITLE = "the local map, the convolutions' lowering and host devices; --record keeps the times"
NOTE = """\
Separate training at batch 32, EMNIST's network at batch 10. `kdjax/measured.csv` holds these times
once `--record` has put them there, and `auto` takes the fastest form of the nearest network and K
(`kdjax/forms.py`). Matrix products are tried where they are not hopeless: on a CPU, up to 1e9
multiply-adds of all clients."""
COLUMNS = (
  tables.TIME,
  tables.RATIO,
  tables.RATE,
  tables.SHARE,
  tables.COMPILE,
  tables.SCRATCH,
  tables.RESIDENT,
)
BATCH = {"mlp": 32, "cnn": 32, "emnist": 10, "resnet20": 32, "resnet18": 32}  # as in the suites
CLIENT_STEPS = {"mlp": 1920, "cnn": 480, "emnist": 80, "resnet20": 16, "resnet18": 1}  # of a block
MOST = {"resnet18": 2}  # clients on a CPU
# Multiply-adds of all clients above which a CPU's matrix products are left out: they need gigabytes
# of scratch, and giving those back disturbs whoever comes next.
HEAVY = 1e9
CONVOLUTIONS = (  # in a loop or a copy a client, `split` is `direct`
  ("scan", "direct"),
  ("scan", "matmul"),
  ("vmap", "direct"),
  ("vmap", "split"),
  ("vmap", "matmul"),
  ("unroll", "direct"),
  ("unroll", "matmul"),
)
NONE = (("vmap", "direct"), ("scan", "direct"), ("unroll", "direct"))
FIELDS = (
  "backend",
  "device",
  "network",
  "work",
  "convolves",
  "clients",
  "map",
  "conv",
  "spread",
  "milliseconds",
  "commit",
)
RECORD = Path(kdjax.__file__).parent / "measured.csv"


def contests(options):
  """A contest for every model and K: all forms, and the peak."""
  for model, client_steps in CLIENT_STEPS.items():
    if options.quick and not options.only and model != "mlp":
      continue
    for K in options.K((1, 2, 4, 8)):
      name = f"{model}, K = {K}"
      if options.wants(name) and (options.gpu or MOST.get(model, K) >= K):
        steps = max(1, (20 if options.quick else client_steps) // K)
        yield Contest(name, (*forms(options, model, K, steps), sides.peak(options)))


def forms(options, model, K, steps):
  """A contestant for every form."""
  spec = dict(model=model, clients=K, batch=BATCH[model], steps=steps)
  spec |= dict(algorithm="separate", form="fused")
  heavy = not options.gpu and K * BATCH[model] * MACS[model] > HEAVY
  pairs = CONVOLUTIONS if convolves(model) else NONE
  pairs = [(local_map, conv) for local_map, conv in pairs if not (heavy and conv == "matmul")]
  spread = 1 if options.gpu else layout.host_devices((K,), cores())
  for devices, (local_map, conv) in itertools.product(sorted({1, spread}), pairs):
    name = f"{local_map}, {conv}" if convolves(model) else local_map
    name += f", {devices} devices" if devices > 1 else ""
    yield sides.step(name, spec | {"map": local_map, "conv": conv, "devices": devices})


def convolves(model):
  """Whether a network has convolutions."""
  return model != "mlp"


def record(results, path=RECORD):
  """Adds what was measured to the table that `auto` reads; replaces rows of the same setting.

  Args:
    results: {contest: its result}.
    path: the table.
  """
  setting = lambda row: tuple(row[field] for field in FIELDS[:-2] if field != "work")
  new = [row for name, result in results.items() for row in measured(name, result)]
  with open(path, newline="") as file:
    old = [row for row in csv.DictReader(file) if setting(row) not in set(map(setting, new))]
  with open(path, "w", newline="") as file:
    writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(old + new)


def measured(name, result):
  """The rows of one contest for `measured.csv`, all values as text."""
  model, _, K = name.partition(", K = ")
  for row in result["rows"]:
    facts = row.get("facts", {})
    if "map" not in facts:
      continue
    milliseconds = 1e3 * statistics.median(row["seconds"]) / row["steps"]
    device = result["cpu"] if facts["backend"] == "cpu" else facts["device"]
    yield {
      "backend": facts["backend"],
      "device": device.replace(",", " "),
      "network": model,
      "work": str(MACS[model] * BATCH[model]),
      "convolves": str(convolves(model)),
      "clients": K,
      "map": facts["map"],
      "conv": facts["conv"] or "direct",
      "spread": str(facts["mesh"] != [1, 1]),
      "milliseconds": f"{milliseconds:.4g}",
      "commit": result["commit"],
    }
