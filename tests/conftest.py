"""Eight CPU devices, and quick compilation: that is what small programs cost."""

import gc
import importlib.metadata
import os
from pathlib import Path

os.environ["XLA_FLAGS"] = " ".join(
  (
    os.environ.get("XLA_FLAGS", ""),
    "--xla_backend_optimization_level=0",
    "--xla_cpu_parallel_codegen_split_count=1",  # pytest-xdist keeps the other cores busy
  )
)
if importlib.metadata.version("jaxlib").startswith("0.10."):  # an unknown flag would be fatal
  # XLA's older way of writing loops compiles these programs in two thirds of the time.
  os.environ["XLA_FLAGS"] += " --xla_cpu_use_fusion_emitters=false"

import jax
import jaxtyping
import noise
import pytest

# Annotations are checked here, axis letters and all, where they say what arrays are. Not in files
# with a method's `Hyper`: configs hold its values, and what is wrong in them is a ConfigError.
methods = ("mhd.losses", "mhd.pool", "mhd.broadcast", "mhd.messages", "fedgkt.server")
methods += ("fedgkt.uploads", "fedgkt.steps", "pairwise.steps", "pairwise.variants")
methods += ("async_edge.steps", "pairwise.transfer", "pairwise.metadata", "async_edge.corruption")
models = ("layers", "conv", "heads", "mlp", "cnn", "resnet", "cifar_resnet", "gkt_resnet", "fedmd")
checked = ["kdjax.core", *(f"kdjax.models.{name}" for name in models)]
checked += [f"kdjax.algorithms.{name}" for name in methods]
jaxtyping.install_import_hook(checked, "beartype.beartype")
# Fresh weights are compiled as quickly as all else here; it is half of what small runs cost.
start = importlib.import_module("kdjax.training.start")  # after the hook
start.COMPILED["xla_backend_optimization_level"] = 0

gc.set_threshold(200_000, 100, 1000)  # tracing makes many objects and few cycles: an eighth less
jax.config.update("jax_num_cpu_devices", 8)
cache = os.environ.get("JAX_COMPILATION_CACHE_DIR", Path.home() / ".cache" / "kdjax" / "tests")
jax.config.update("jax_compilation_cache_dir", str(cache))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


def pytest_addoption(parser):
  """`--thorough`: every method on every mesh, and every fault as often as promised: hours."""
  parser.addoption("--thorough", action="store_true", help="all meshes, all trials of faults")
  parser.addoption("--campaigns", help="keep the record of the trials in this folder, to go on")


def pytest_configure(config):
  config.addinivalue_line("markers", "thorough: repeats of a kind, tried with --thorough")


def pytest_collection_modifyitems(config, items):
  """Leaves out what only `--thorough` tries."""
  if config.getoption("thorough"):
    return
  left = [item for item in items if item.get_closest_marker("thorough")]
  config.hook.pytest_deselected(items=left)
  items[:] = [item for item in items if not item.get_closest_marker("thorough")]


@pytest.fixture
def weights_of_a_run(monkeypatch):
  """Fresh weights are compiled as a run does: those of two methods are the same to the bit."""
  monkeypatch.setitem(start.COMPILED, "xla_backend_optimization_level", 1)


@pytest.fixture(autouse=True)
def same_noise():
  """A test's inputs do not depend on the tests that ran before it in the same process."""
  noise.rng.bit_generator.state = noise.START
