"""Suite `parts`: where a training step's time goes."""

from benchmarks import options as sides
from benchmarks import tables
from benchmarks.contest import Contest

TITLE = "the parts of a training step: forward, optimiser, refresh of the pool, indices"
NOTE = """\
Batch 32 a client, MHD as in `overhead`; every part is a program of its own, timed alone, so that
parts that share a step need not add up to it. *Time / first* is against MHD's step. The forward
pass is in evaluation mode, on 32 images for every client; the refresh happens every S_P steps; the
indices are made and put on the device while the step before computes."""
COLUMNS = (tables.TIME, tables.RATIO)
SETTINGS = (("mlp", 8), ("cnn", 8), ("resnet20", 8))  # (model, K)
QUICK = (("cnn", 2),)


def contests(options):
  """A contest for every network and number of host devices."""
  for model, K in QUICK if options.quick else SETTINGS:
    for devices in (0,) if options.gpu else (1, 2):
      name = f"{model}, K = {K}" + (f", {devices} devices" if devices > 1 else "")
      if options.wants(name) and K in options.K((K,), (K,)):
        spec = dict(model=model, clients=K, batch=32, devices=devices)
        yield Contest(name, (sides.own("kdjax", "parts", spec),))
