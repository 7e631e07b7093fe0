"""Suite `maps`: the forms in which a device can run its clients; `--record` keeps the times."""

import csv
import itertools
import statistics

from benchmarks import options as sides
from benchmarks import tables
from benchmarks.contest import Contest
from benchmarks.settings import MACS
from kdjax import layout
from kdjax.core.machine import cores

TITLE = "the local map, the convolutions' lowering and host devices; --record keeps the times"
NOTE = """\
Separate training at batch 32, EMNIST's network at batch 10; ResNet-34, on a GPU alone, at batch 128
in bfloat16. `kdjax/measured.csv` holds these times once `--record` has put them there, and `auto`
takes the fastest form of the nearest network and K (`kdjax/forms.py`). Matrix products are tried
where they are not hopeless: up to 1e9 multiply-adds of all clients on a CPU, 1e12 on a GPU; a copy
of the network a client on a GPU up to as many, and up to 8 clients."""
COLUMNS = (
  tables.TIME,
  tables.RATIO,
  tables.RATE,
  tables.SHARE,
  tables.COMPILE,
  tables.SCRATCH,
  tables.RESIDENT,
)
# As in the suites `clients` and `accelerator`.
BATCH = {"mlp": 32, "cnn": 32, "emnist": 10, "resnet20": 32, "resnet18": 32, "resnet34": 128}
DTYPE = {"resnet34": "bfloat16"}
# Of a block: about a second of a loop over clients, on a GPU by its roofline alone.
CLIENT_STEPS = {"mlp": 1920, "cnn": 480, "emnist": 80, "resnet20": 16, "resnet18": 1}
GPU_STEPS = {
  "mlp": 16_000,
  "cnn": 4_000,
  "emnist": 4_000,
  "resnet20": 640,
  "resnet18": 320,
  "resnet34": 80,
}
MOST = {"resnet18": 2}  # clients on a CPU
# Multiply-adds of all clients above which matrix products are left out: they need gigabytes of
# scratch, and giving those back disturbs whoever comes next.
HEAVY, GPU_HEAVY = 1e9, 1e12
UNROLLED = 8  # clients on a GPU: each has a copy of every kernel, and they are compiled one by one
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


def contests(options):
  """A contest for every model and K: all forms, and the peak."""
  for model, client_steps in (GPU_STEPS if options.gpu else CLIENT_STEPS).items():
    if options.quick and not options.only and model != "mlp":
      continue
    for K in options.K((1, 2, 4, 8)):
      name = f"{model}, K = {K}"
      if options.wants(name) and (options.gpu or MOST.get(model, K) >= K):
        steps = max(1, (20 if options.quick else client_steps) // K)
        peak = sides.peak(options, DTYPE.get(model, "float32"))
        yield Contest(name, (*forms(options, model, K, steps), peak))


def forms(options, model, K, steps):
  """A contestant for every form."""
  spec = dict(model=model, clients=K, batch=BATCH[model], steps=steps)
  spec |= dict(algorithm="separate", form="fused", dtype=DTYPE.get(model, "float32"))
  spread = 1 if options.gpu else layout.host_devices((K,), cores())
  tried = pairs(options, model, K)
  for devices, (local_map, conv) in itertools.product(sorted({1, spread}), tried):
    name = f"{local_map}, {conv}" if convolves(model) else local_map
    name += f", {devices} devices" if devices > 1 else ""
    yield sides.step(name, spec | {"map": local_map, "conv": conv, "devices": devices})


def pairs(options, model, K):
  """The maps and lowerings that are not hopeless, see `NOTE`."""
  heavy = K * BATCH[model] * MACS[model] > (GPU_HEAVY if options.gpu else HEAVY)
  copies = not options.gpu or (K <= UNROLLED and not heavy)
  return [
    (local_map, conv)
    for local_map, conv in (CONVOLUTIONS if convolves(model) else NONE)
    if not (heavy and conv == "matmul") and (copies or local_map != "unroll")
  ]


def convolves(model):
  """Whether a network has convolutions."""
  return model != "mlp"


def record(results, path):
  """Adds what was measured to a table as `auto` reads it; replaces rows of the same setting.

  Args:
    results: {contest: its result}.
    path: the table, which need not be there yet.
  """
  setting = lambda row: tuple(row[field] for field in FIELDS[:-2] if field != "work")
  new = [row for name, result in results.items() for row in measured(name, result)]
  text = path.read_text() if path.exists() else ""
  old = [r for r in csv.DictReader(text.splitlines()) if setting(r) not in set(map(setting, new))]
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
