"""The machine that a process runs on."""

import contextlib
import contextvars
import os
import platform
from collections.abc import Iterator
from pathlib import Path

_target: contextvars.ContextVar[str] = contextvars.ContextVar("target", default="")


def backend() -> str:
  """The kind of device that programs are traced for: 'cpu', 'gpu' or 'tpu'.

  It is JAX's default, except inside `compiling_for`.
  """
  import jax

  return _target.get() or jax.default_backend()


@contextlib.contextmanager
def compiling_for(kind: str) -> Iterator[None]:
  """A context in which programs are traced for another kind of device, present or not."""
  token = _target.set(kind)
  try:
    yield
  finally:
    _target.reset(token)


def cores() -> int:
  """The number of CPU cores that this process may use."""
  return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor() -> str:
  """The processor's name."""
  info = Path("/proc/cpuinfo")
  lines = info.read_text().splitlines() if info.exists() else []
  names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
  return names[0] if names else platform.processor() or platform.machine()


def cache() -> Path:
  """The folder of files that kdjax can make again: compiled programs, measurements."""
  home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
  return Path(home) / "kdjax"


def configure_jax(devices: int, *, x64: bool) -> None:
  """Configures JAX; to be called before its first use of a device.

  Args:
    devices: the number of CPU devices.
    x64: whether 64-bit types are enabled.
  """
  import jax
  from absl import logging

  logging.set_verbosity(logging.WARNING)  # Orbax logs every step of every save as information

  jax.config.update("jax_enable_x64", x64)
  jax.config.update("jax_num_cpu_devices", devices)
  compiled = os.environ.get("JAX_COMPILATION_CACHE_DIR") or cache() / "jit"
  jax.config.update("jax_compilation_cache_dir", str(compiled))
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
