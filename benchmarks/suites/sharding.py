"""Suite `sharding`: clients spread over 1 to 8 devices."""

from benchmarks import options as sides
from benchmarks import tables
from benchmarks.contest import Contest

TITLE = "weak and strong scaling over 1 to 8 devices"
NOTE = """\
Separate training, batch 32 a client. *Weak*: a client a device, so that a step on as many cores as
devices would always take as long. *Strong*: the same clients on more and more devices. On a CPU the
devices are host devices of one process: where the line above a table names fewer cores than there
are devices, these share the cores, and the table shows what the mesh costs, not what more hardware
would give."""
COLUMNS = (
  tables.TIME,
  tables.RATIO,
  tables.IMAGES,
  tables.RATE,
  tables.SHARE,
  tables.COMPILE,
  tables.SCRATCH,
  tables.RESIDENT,
)
STEPS = {"mlp": 240, "resnet20": 2}  # of a block
DEVICES = (1, 2, 4, 8)


def contests(options):
  """Weak and strong, for every network."""
  for model, steps in STEPS.items():
    if options.quick and model != "mlp":
      continue
    counts = DEVICES[:2] if options.quick else DEVICES
    strong = options.K((8,), (2,))[-1]
    kinds = {"weak": lambda n: n, f"strong, K = {strong}": lambda n, K=strong: K}
    for kind, clients in kinds.items():
      name = f"{model}, {kind}"
      if options.wants(name):
        rows = [side(model, clients(n), n, steps) for n in counts]
        yield Contest(name, (*rows, sides.peak(options)))


def side(model, clients, devices, steps):
  """K clients on so many devices."""
  spec = dict(model=model, clients=clients, batch=32, algorithm="separate", form="fused")
  name = f"{devices} device" + ("s" if devices > 1 else "")
  return sides.step(name, spec | {"devices": devices, "steps": steps})
