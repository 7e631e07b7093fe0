"""Suite `overhead`: what MHD costs beside the FLOPs that it needs."""

from benchmarks import options as sides
from benchmarks import tables
from benchmarks.contest import Contest

TITLE = "MHD's step against the separate step and the ratio of their FLOPs"
NOTE = """\
MHD with one teacher from the pool (D = 1), four heads, 32 private and 32 public images a client;
separate training with 32 private ones. *Time / FLOPs* is the ratio of times over the ratio of
FLOPs: what MHD costs beside the arithmetic that it asks for. The refresh of the pool, a phase of
its own every S_P steps, is not part of the step. FLOPs and peak are as in `clients`."""
COLUMNS = (
  tables.TIME,
  tables.RATIO,
  tables.FLOPS_RATIO,
  tables.OVERHEAD,
  tables.RATE,
  tables.SHARE,
  tables.COMPILE,
  tables.SCRATCH,
  tables.RESIDENT,
)
SETTINGS = (("resnet20", 4, 4), ("resnet20", 8, 2), ("resnet18", 2, 1))  # (model, K, steps)
QUICK = (("cnn", 2, 4),)


def contests(options):
  """A contest for every network, K and number of host devices."""
  for model, K, steps in QUICK if options.quick else SETTINGS:
    for devices in (0,) if options.gpu else (1, 2):
      name = f"{model}, K = {K}" + (f", {devices} devices" if devices > 1 else "")
      if options.wants(name) and K in options.K((K,), (K,)):
        yield Contest(name, tuple(sides_of(options, model, K, steps, devices)))


def sides_of(options, model, K, steps, devices):
  """Both methods, and the peak."""
  common = dict(model=model, clients=K, batch=32, steps=steps, form="fused", devices=devices)
  for algorithm, name in (("separate", "separate"), ("mhd", "MHD")):
    yield sides.step(name, common | {"algorithm": algorithm})
  yield sides.peak(options)
