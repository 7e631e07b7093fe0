"""Suite `tried`: what XLA:CPU leaves open, and what kdjax works around, one change at a time."""

import dataclasses

from benchmarks import options as sides
from benchmarks import tables
from benchmarks.contest import Contest

TITLE = "XLA:CPU: kdjax's workarounds taken away, and flags"
NOTE = """\
Two host devices. The first row is kdjax as it is; every other one differs by what its name says.
*All inlined* and *YNNPACK's convolutions* are XLA's ways, which kdjax overrides
(`kdjax/core/noinline.py`, `kdjax/training/program.py`); those in backquotes are set in the
environment."""
COLUMNS = (tables.TIME, tables.RATIO, tables.RATE, tables.SHARE, tables.COMPILE, tables.SCRATCH)
SETTINGS = (("resnet20", 8, 32, 2), ("cifar", 8, 10, 4), ("resnet18", 2, 32, 1))  # K, batch, steps
QUICK = (("cnn", 2, 4, 2),)
CHANGES = {  # of the spec
  "all inlined": {"without": ("calls",)},
  "YNNPACK's convolutions": {"without": ("eigen",)},
  "both": {"without": ("calls", "eigen")},
  "a dispatch a step": {"steps_per_dispatch": 1},
}
ENVIRONMENT = (
  "XLA_FLAGS=--xla_cpu_use_onednn=true",
  "XLA_FLAGS=--xla_cpu_prefer_vector_width=512",
  "XLA_FLAGS=--xla_cpu_enable_fast_math=true",
  "XLA_FLAGS=--xla_cpu_opt_preset=CPU_OPT_PRESET_FAST_RUNTIME",
  "XLA_FLAGS=--xla_cpu_multi_thread_eigen=false",
  "XLA_FLAGS=--xla_cpu_use_fusion_emitters=false",  # the older way of writing loops
  "GLIBC_TUNABLES=glibc.malloc.hugetlb=1",  # huge pages
)


def contests(options):
  """A contest for every network; none on a GPU."""
  for model, K, batch, steps in QUICK if options.quick else SETTINGS:
    name = f"{model}, K = {K}"
    if options.wants(name) and not options.gpu:
      spec = dict(model=model, clients=K, batch=batch, steps=steps, devices=2)
      spec |= dict(algorithm="separate", form="fused")
      yield Contest(name, (*sides_of(spec), sides.peak(options)))


def sides_of(spec):
  """kdjax as it is, and its variations."""
  yield sides.step("kdjax", spec)
  for name, changes in CHANGES.items():
    yield sides.step(name, spec | changes)
  for setting in ENVIRONMENT:
    name, value = setting.split("=", 1)
    side = sides.step(f"`{setting}`", spec)
    yield dataclasses.replace(side, environment=side.environment | {name: value})
