"""A machine to compile for: a kind of device, described by a file, and a number of devices.

Examples are `--target=v5e:2x4`, `--target=h100:8`, and `--target=mine.toml:8` with a user's file.
"""

import contextlib
import dataclasses
import logging
import math
import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
from jax.experimental.compilation_cache import compilation_cache

from kdjax.core import machine
from kdjax.types import ConfigError

FOLDER = Path(__file__).parent / "targets"
GIB = 2**30
EXTRAS = {"tpu": "pip install 'kdjax[tpu]'", "gpu": "pip install 'kdjax[cuda12]'"}
ALONE = {  # settings that let compilers work without their devices
  "JAX_PLATFORMS": "cpu",
  "JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1",  # the check of the driver's version
  "TPU_SKIP_MDS_QUERY": "1",  # without a cloud there is no metadata server to wait for
  "TPU_WORKER_HOSTNAMES": "localhost",
  "TPU_STDERR_LOG_LEVEL": "3",
  "TPU_MIN_LOG_LEVEL": "3",
}
REQUIRED = {
  "kind": str,
  "description": str,
  "memory_gib": float,
  "bandwidth_gbs": float,
  "tflops": dict,
  "link_gbs": float,
  "launch_us": float,
}
OPTIONAL = {
  "graph_launch_us": float,
  "device_kind": str,
  "topology": str,
  "megacore": bool,
  "links": float,
  "host_size": float,
  "network_gbs": float,
  "compiler": dict,
}


@dataclasses.dataclass(frozen=True)
class Target:
  """Devices of one kind, with the numbers of one device from its file."""

  name: str  # the name on the command line, 'v5e:2x4'
  kind: str  # 'tpu' or 'gpu'
  description: str
  shape: tuple[int, ...]  # of the torus, or (devices,)
  memory: float  # bytes that a program may use
  bandwidth: float  # bytes per second to and from that memory
  peak: dict[str, float]  # dtype: FLOP/s
  link: float  # bytes per second to all other devices together, one direction
  links: float  # links that share this rate; a neighbour in a torus has one
  host: float  # devices that the links join; inf: all
  network: float  # bytes per second of a device to those of other hosts, one direction
  launch: float  # seconds between two kernels that are launched one by one
  graph_launch: float  # seconds between two kernels in a command buffer
  device_kind: str  # JAX's name of such a device
  topology: str  # the TPU compiler's name of the generation, 'v5e'
  megacore: bool  # whether a chip's two cores are one device
  compiler: dict[str, Any]  # the device's properties that the GPU's compiler needs

  @property
  def size(self) -> int:
    """The number of devices."""
    return math.prod(self.shape)


def files() -> dict[str, Path]:
  """{kind of device: its file} of kdjax's files and the user's, which take precedence.

  The user's files are in the folder that the environment variable KDJAX_TARGETS names.
  """
  own = os.environ.get("KDJAX_TARGETS")
  folders = (FOLDER, Path(own)) if own else (FOLDER,)
  return {path.stem: path for folder in folders for path in sorted(folder.glob("*.toml"))}


def parse(name: str) -> Target:
  """The target of a name such as 'v5e:2x4', 'h100:8' or 'mine.toml:8'.

  Raises:
    ConfigError: for a kind without a file, a file that cannot be read or lacks an entry, or an
      invalid size.
  """
  kind, _, size = name.rpartition(":")
  known = files()
  if not kind or not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)*", size):
    hint = "a kind and a size, such as h100:8 or v5e:2x4; kinds: " + ", ".join(sorted(known))
    raise ConfigError("--target", name, hint)
  is_file = kind.endswith(".toml")
  path = Path(kind) if is_file else known.get(kind)
  if path is None or not path.is_file():
    kinds = f"one of {', '.join(sorted(known))}, or a file of your own"
    hint = "no such file" if is_file else kinds
    raise ConfigError("--target", kind, hint)
  return _read(path, name, tuple(map(int, size.split("x"))))


def of(device: jax.Device) -> Target | None:
  """The target whose file describes a device by its `device_kind`; None if there is none."""
  found = (parse(f"{name}:1") for name in reversed(files()))
  return next((t for t in found if t.device_kind == device.device_kind), None)


def _read(path, name, shape):
  try:
    given = tomllib.loads(path.read_text())
  except (OSError, ValueError) as error:
    raise ConfigError("--target", str(path), f"cannot be read: {error}") from None
  _check(path, given)
  return Target(
    name=name,
    kind=given["kind"],
    description=given["description"],
    shape=shape,
    memory=given["memory_gib"] * GIB * (_share() if given["kind"] == "gpu" else 1.0),
    bandwidth=given["bandwidth_gbs"] * 1e9,
    peak={dtype: 1e12 * rate for dtype, rate in given["tflops"].items()},
    link=given["link_gbs"] * 1e9,
    links=given.get("links", 1),
    host=given.get("host_size", math.inf),
    network=given.get("network_gbs", given["link_gbs"]) * 1e9,
    launch=given["launch_us"] * 1e-6,
    graph_launch=given.get("graph_launch_us", given["launch_us"]) * 1e-6,
    device_kind=given.get("device_kind", given["description"]),
    topology=given.get("topology", path.stem),
    megacore=given.get("megacore", False),
    compiler=given.get("compiler", {}),
  )


def _share() -> float:
  """The share of a GPU's memory that JAX gives to programs."""
  for name in ("XLA_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_MEM_FRACTION"):
    if given := os.environ.get(name):
      try:
        return float(given)
      except ValueError:
        raise ConfigError(name, given, "must be a share of the memory, such as 0.9") from None
  return 0.75


def _check(path, given):
  """Raises a ConfigError for an entry that is missing, unknown or invalid."""
  known = REQUIRED | OPTIONAL
  for key, value in given.items():
    if key not in known:
      raise ConfigError(f"{path}: {key}", value, f"no such entry; known are {', '.join(known)}")
  for key, kind in known.items():
    if key in given or key in REQUIRED:
      _check_entry(f"{path}: {key}", given.get(key), kind, may_be_zero=key.endswith("_us"))
  for dtype, rate in given["tflops"].items():
    _check_entry(f"{path}: tflops.{dtype}", rate, float, may_be_zero=False)
  if given["kind"] not in EXTRAS:
    raise ConfigError(f"{path}: kind", given["kind"], "must be tpu or gpu")
  if "float32" not in given["tflops"]:
    raise ConfigError(f"{path}: tflops", given["tflops"], "must have float32, the rest's default")
  if given["kind"] == "gpu":
    capability = given.get("compiler", {}).get("capability")
    if not (isinstance(capability, str) and re.fullmatch(r"\d+\.\d+", capability)):
      hint = 'the compiler needs the GPU and its `capability`, such as "9.0"; see h100.toml'
      raise ConfigError(f"{path}: compiler.capability", capability, hint)


def _check_entry(key, value, kind, *, may_be_zero):
  if kind is not float:
    if not isinstance(value, kind):
      raise ConfigError(key, value, f"must be there, a {kind.__name__}")
    return
  number = isinstance(value, (int, float)) and not isinstance(value, bool)
  if not number or not math.isfinite(value) or value < 0 or (value == 0 and not may_be_zero):
    raise ConfigError(key, value, f"must be a number, {'0 or more' if may_be_zero else 'above 0'}")


def prepare() -> None:
  """Makes the settings for compiling without devices; must precede JAX's first use of a device."""
  for key, value in ALONE.items():
    os.environ.setdefault(key, value)
  # xla_bridge finds the CUDA plug-in twice and complains; `devices` reports what is missing.
  logging.getLogger("jax._src.xla_bridge").setLevel(logging.CRITICAL)


def devices(target: Target) -> list[jax.Device]:
  """Descriptions of the target's devices to compile for; they need no driver.

  Raises:
    ConfigError: if the compiler is not installed, or does not know such a machine.
  """
  from jax.experimental import topologies

  try:
    if target.kind == "tpu":
      return topologies.get_topology_desc(**_tpu(target)).devices
    return topologies.get_topology_desc(**_gpu(target)).devices
  except (RuntimeError, NotImplementedError, ValueError, jax.errors.JaxRuntimeError) as error:
    if "already in use" in str(error) or "lockfile" in str(error):
      hint = "another process holds libtpu, which serves one at a time"
      raise ConfigError("--target", target.name, hint) from None
    line = str(error).partition("\n")[0]
    hint = f"its compiler says: {line}. If it is not installed: {EXTRAS[target.kind]}"
    raise ConfigError("--target", target.name, hint) from None


def _tpu(target):
  shape = "x".join(map(str, target.shape))
  more = {"chip_config_name": "megacore"} if target.megacore else {}
  if len(target.shape) > 1 and 1 in target.shape[:2]:  # in a row no host has 2 x 2 chips
    more |= {"chips_per_host_bounds": (*(min(2, n) for n in target.shape[:2]), 1)}
  return dict(platform="tpu", topology_name=f"{target.topology}:{shape}", **more)


def _gpu(target):
  from jax._src import xla_bridge  # no public function registers a plug-in without its devices

  xla_bridge.discover_pjrt_plugins()
  shape = f"1x1x{target.size}"
  return dict(
    platform="cuda", topology_name=shape, target_config=_description(target), topology=shape
  )


def _description(target):
  """XLA's GpuTargetConfig, as text."""
  given = dict(target.compiler)
  major, _, minor = given.pop("capability").partition(".")
  lines = "\n".join(f"  {key}: {value}" for key, value in given.items())
  return f"""
gpu_device_info {{
{lines}
  cuda_compute_capability {{ major: {major} minor: {minor} }}
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 8 }}
runtime_version {{ major: 12 minor: 9 }}
device_description_str: "{target.description}"
"""


@contextlib.contextmanager
def compiling(target: Target) -> Iterator[list[jax.Device]]:
  """Makes programs that are traced inside those of the target; yields its devices."""
  # libtpu aborts the process at any flag that is not its own, when it first compiles.
  flags = os.environ.pop("XLA_FLAGS", None) if target.kind == "tpu" else None
  cached = jax.config.jax_enable_compilation_cache  # type: ignore[attr-defined]
  jax.config.update("jax_enable_compilation_cache", False)  # such programs cannot be read back
  compilation_cache.reset_cache()  # the cache reads that setting only once
  try:
    with machine.compiling_for(target.kind):
      yield devices(target)
  finally:
    jax.config.update("jax_enable_compilation_cache", cached)
    compilation_cache.reset_cache()
    if flags is not None:
      os.environ["XLA_FLAGS"] = flags


def options(target: Target) -> dict[str, Any]:
  """The options of the target's compiler.

  Without the GPU its algorithms cannot be timed. A TPU's compiler spends most of its time on trying
  windows for every convolution. The first window is enough, since fusions, memory and messages stay
  the same, and only the kernels' code is smaller than it would be.
  """
  if target.kind == "gpu":
    return {"xla_gpu_autotune_level": 0}
  return {"xla_jf_convolution_performance_target": "0.5"}
