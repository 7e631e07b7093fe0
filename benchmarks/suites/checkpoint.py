"""Suite `checkpoint`: how long saving holds up training, and restoring a start."""

from benchmarks import options as sides
from benchmarks import tables
from benchmarks.contest import Contest

TITLE = "checkpoints: save, asynchronous save, restore"
NOTE = """\
The whole state of K clients (weights, BatchNorm statistics, momentum that is not zero) through
`kdjax.training.checkpoint`, into the system's folder for temporary files. Saving is asynchronous:
training goes on once the call returns. Restoring reads what was just written, so mostly from the
operating system's cache."""
COLUMNS = (tables.TIME, tables.mebibytes("state MiB", "state_bytes"), tables.RESIDENT)


def contests(options):
  """One contest: K ResNet-34."""
  model = "resnet18" if options.quick else "resnet34"
  for K in options.K((8,)):
    name = f"{model}, K = {K}"
    if options.wants(name):
      spec = dict(model=model, clients=K, batch=1, algorithm="separate")
      yield Contest(name, (sides.own("kdjax", "saving", spec),))
