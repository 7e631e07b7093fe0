"""The command line's options for a suite, and the contestants that suites share."""

import dataclasses
import functools
import os
import subprocess
import sys
from pathlib import Path

from benchmarks import count
from benchmarks.contest import Contestant
from benchmarks.tables import PEAK

RIVALS = Path(__file__).parent / "rivals"
INSTALL = {  # interpreter: how to make it
  "torch": "pip install torch==2.13.0",
  "fedjax": "pip install jax==0.10.2"
  " git+https://github.com/google/fedjax@c57ee1970fcd74b560c3d7e5716fae32287daa7b",
  "pfl": "pip install torch==2.13.0 'pfl[pytorch]'",
  "flower": "pip install torch==2.13.0 'flwr[simulation]'",
}


@dataclasses.dataclass(frozen=True)
class Options:
  """The command line."""

  quick: bool  # a smoke test: the smallest of everything
  clients: tuple[int, ...]  # the numbers of clients asked for; (): the suite's own
  only: str  # contests whose name holds this text; '': all
  pythons: dict[str, str]  # rival: its interpreter

  def wants(self, name):
    """Whether a contest of this name was asked for."""
    return self.only in name

  def K(self, own, quick=(2,)):
    """The numbers of clients: those asked for, else the suite's `own`, or the `quick` ones."""
    return self.clients or (quick if self.quick else own)

  @functools.cached_property
  def gpu(self):
    """Whether JAX finds a GPU; another process looks, so that the GPU is free afterwards."""
    command = [sys.executable, "-c", "import jax; print(jax.default_backend())"]
    out = subprocess.run(command, capture_output=True, text=True, check=True)
    return out.stdout.strip() == "gpu"


SHARED = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}  # a GPU holds all contestants at once
# The environment variable that names a folder for the programs that contestants compile.
CACHE = "BENCHMARKS_CACHE"


def own(name, module, spec, **values):
  """A contestant of kdjax: `python -m benchmarks.MODULE`."""
  command = (sys.executable, "-m", f"benchmarks.contestants.{module}")
  return Contestant(name, command, spec, environment=SHARED, **values)


def step(name, spec):
  """A contestant that takes kdjax's training steps, see `step.py`."""
  images = step_images(spec)
  return own(name, "step", spec, images=images, flops=count.step_flops(spec))


def step_images(spec):
  """The images in one step of all clients: private ones and, in MHD, public ones."""
  return spec["clients"] * spec["batch"] * (2 if spec["algorithm"] == "mhd" else 1)


def peak(options, dtype="float32"):
  """The contestant that measures the machine's matrix products."""
  size, steps = (8192, 20) if options.gpu else (2048, 4)
  if options.quick:
    size, steps = 256, 2
  return own(PEAK, "peak", dict(size=size, dtype=dtype, steps=steps), flops=2 * size**3)


def rival(options, name, label, script, spec, **values):
  """A contestant under a rival's interpreter; without one, its row says how to make it."""
  values["environment"] = SHARED | torch_cache(os.environ.get(CACHE))
  if name in options.pythons:
    return Contestant(label, (options.pythons[name], str(RIVALS / script)), spec, **values)
  missing = f"no interpreter; --python={name}=... ({INSTALL[name]})"
  return Contestant(label, (), spec, missing=missing, **values)


def torch_cache(folder):
  """Environment variables that keep PyTorch's compiled programs in a folder, or disable caches."""
  if folder:
    return {"TORCHINDUCTOR_CACHE_DIR": f"{folder}/torch"}
  return {"TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1"}
