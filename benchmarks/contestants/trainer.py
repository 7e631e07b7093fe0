"""What all of kdjax's contestants share: JAX's settings, and an experiment that is stepped."""

import time

import jax

from benchmarks import settings
from kdjax import experiment
from kdjax.core import mapping
from kdjax.models import conv
from kdjax.training import inputs, program, schedule


def configure(spec):
  """Settings that must precede JAX's first use of a device; nothing compiled is read from disk.

  A spec's 'without' names workarounds to leave out: 'calls' (`core/noinline.py`), 'eigen'
  (`program.compiler_options`).
  """
  jax.config.update("jax_enable_compilation_cache", False)
  if spec.get("devices"):
    jax.config.update("jax_num_cpu_devices", spec["devices"])
  if "calls" in spec.get("without", ()):
    conv.apart = mapping.apart = lambda fn: fn
  if "eigen" in spec.get("without", ()):
    program.compiler_options = lambda: None


def facts():
  """The versions and the device, for the ready line."""
  device = jax.devices()[0]
  backend = jax.default_backend()
  return {"versions": {"jax": jax.__version__}, "backend": backend, "device": device.device_kind}


class Trainer:
  """An experiment's programs, called as the training loop calls them.

  But for one thing: on one device any number of dispatches may be under way.
  """

  def __init__(self, spec):
    """Builds the experiment; nothing is compiled yet."""
    config, data = settings.config(spec), settings.data(spec)
    devices = jax.devices()[: spec.get("devices") or 1]
    self.experiment = experiment.build(config, data=data, devices=devices)
    self.visits = self.experiment.visits
    self.tables = inputs.tables(self.experiment)
    self.fresh = self.experiment.initialiser()  # makes a state
    self.programs, self.totals = {}, schedule.totals(self.visits)
    self.compile_seconds, self.scratch_bytes = 0.0, 0
    self.under_way = (None, None)  # what the last two dispatches return; in training, no more are

  def inputs(self, visit, i, count):
    """The host's part of a dispatch."""
    return inputs.inputs(self.experiment, visit, i, count, self.totals[visit.number])

  def call(self, state, visit, i, count):
    """Dispatches calls i .. i + count of a visit."""
    arguments = self.inputs(visit, i, count)
    if visit.number not in self.programs:
      began = time.perf_counter()
      lowered = program.jitted(self.experiment, visit.phase).lower(state, *arguments, self.tables)
      compiled = self.programs[visit.number] = lowered.compile()
      self.compile_seconds += time.perf_counter() - began
      memory = compiled.memory_analysis()
      self.scratch_bytes = max(self.scratch_bytes, memory.temp_size_in_bytes)
    if self.experiment.env.mesh.size > 1:  # dozens would wait for each other for ever
      jax.block_until_ready(self.under_way[0])
    state, aux = self.programs[visit.number](state, *arguments, self.tables)
    self.under_way = self.under_way[1], aux
    return state

  def calls(self, state, visit, i, n):
    """Dispatches n calls of a visit from its i-th on."""
    size, end = program.dispatch_size(self.experiment, visit.phase), i + n
    while i < end:
      state = self.call(state, visit, i, min(size, end - i))
      i += size
    return state

  def facts(self):
    """What was found out by compiling, and `facts`."""
    env = self.experiment.env
    own = {"compile_seconds": self.compile_seconds, "scratch_bytes": self.scratch_bytes}
    conv = getattr(env.cohorts[0].model, "conv", "")
    return (
      own | {"map": env.local_map, "conv": conv, "mesh": list(env.mesh.devices.shape)} | facts()
    )
