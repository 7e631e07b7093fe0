"""What all of kdjax's contestants share: JAX's settings, and an experiment that is stepped."""

import contextlib
import os
import time

import jax

from benchmarks import settings
from benchmarks.options import CACHE
from kdjax import experiment
from kdjax.core import mapping
from kdjax.models import conv
from kdjax.training import program
from kdjax.training.stepper import Dispatch, Stepper


def configure(spec):
  """Settings that must precede JAX's first use of a device.

  Nothing compiled is read from disk, unless the environment names a folder (`options.CACHE`).

  A spec's 'without' names workarounds to leave out: 'calls' (`core/noinline.py`), 'eigen'
  (`program.compiler_options`).
  """
  cache = os.environ.get(CACHE)
  jax.config.update("jax_enable_compilation_cache", bool(cache))
  if cache:
    jax.config.update("jax_compilation_cache_dir", f"{cache}/jax")
  if spec.get("devices"):
    jax.config.update("jax_num_cpu_devices", spec["devices"])
  if "calls" in spec.get("without", ()):
    conv.noinline = mapping.noinline = lambda fn: fn
  if "eigen" in spec.get("without", ()):
    program.compiler_options = lambda: None


def facts():
  """The versions and the device, for the ready line."""
  device = jax.devices()[0]
  backend = jax.default_backend()
  return {"versions": {"jax": jax.__version__}, "backend": backend, "device": device.device_kind}


class Trainer:
  """An experiment, stepped as the training loop steps it.

  But for one thing: on one device any number of dispatches may be under way.
  """

  def __init__(self, spec):
    """Builds the experiment; nothing is compiled yet."""
    config, data = settings.config(spec), settings.data(spec)
    devices = jax.devices()[: spec.get("devices") or 1]
    self.experiment = experiment.build(config, data=data, devices=devices)
    self.visits, self.stepper = self.experiment.visits, Stepper(self.experiment)
    self.fresh = self.experiment.init  # makes a state
    self.compile_seconds = 0.0
    self.under_way = (None, None)  # what the last two dispatches return; in training, no more are

  @contextlib.contextmanager
  def _compiling(self):
    began = time.perf_counter()
    yield
    self.compile_seconds += time.perf_counter() - began

  def call(self, state, visit, i, count):
    """Dispatches calls i .. i + count of a visit."""
    if self.experiment.env.mesh.size > 1:  # dozens would wait for each other for ever
      jax.block_until_ready(self.under_way[0])
    dispatch = Dispatch(visit, i, count)
    state, aux = self.stepper.run(state, dispatch, compiling=self._compiling())
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
    programs = self.experiment.programs.values()
    scratch = [p.memory_analysis().temp_size_in_bytes for p in programs]
    own = {"scratch_bytes": max(scratch, default=0)}
    if not os.environ.get(CACHE):  # else it may have been read
      own["compile_seconds"] = self.compile_seconds
    conv = getattr(env.cohorts[0].model, "conv", "")
    layout = {"map": env.local_map, "conv": conv, "mesh": list(env.mesh.devices.shape)}
    return own | layout | facts()
