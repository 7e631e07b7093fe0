"""Whether an accelerator computes what the CPU does: every method, 20 calls, leaf by leaf.

  python -m benchmarks.correct --out=DIR      everything, on the CPU and on the default backend

Each experiment trains from the same weights on the same batches in float64 and float32, and in
bfloat16 on the accelerator. DIR/correct.json has, for each, the largest difference of a weight over
the largest weight. In float32 a gate that amplifies rounding may end elsewhere; float64 may not.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

EXPERIMENTS = (
  "mhd_digits",
  "mhd_digits:separate",
  "mhd_digits:fedavg",
  "mhd_digits:kd",
  "mhd_digits:gossip",
  "fedmd_digits",
  "fedgkt_digits",
  "async_edge_digits",
  "pairwise_digits",
)
CALLS = 20
WAYS = (("cpu", "float64"), ("cpu", "float32"), ("", "float64"), ("", "float32"), ("", "bfloat16"))
PAIRS = {  # what is compared: (one way, the other)
  "float64": (("cpu", "float64"), ("", "float64")),
  "float32": (("cpu", "float32"), ("", "float32")),
  "bfloat16 beside float32": (("", "float32"), ("", "bfloat16")),
}


def train(name: str, dtype: str, calls: int) -> list[np.ndarray]:
  """All parameters after so many calls of an experiment's phases, in this process' backend."""
  import jax

  from kdjax import api
  from kdjax.training.stepper import Stepper

  jax.config.update("jax_enable_x64", dtype == "float64")
  changes = {"model.dtype": dtype, "replicas": 1, "compare": (), "mesh.map": "scan"}
  config = api.get_config(name, **changes, **{"mesh.steps_per_dispatch": 1})
  stepper = Stepper(api.experiments(config, devices=jax.devices()[:1])[""])
  state = stepper.init()
  for call, dispatch in enumerate(stepper.dispatches(0)):
    if call == calls:
      break
    state, _ = stepper.run(state, dispatch)
  params = [client.params for client in state.clients]
  return [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(jax.device_get(params))]


def difference(one: list[np.ndarray], other: list[np.ndarray]) -> float:
  """The largest difference of a weight, over the largest weight of `one`."""
  largest = max(float(np.abs(a).max()) for a in one)
  return max(float(np.abs(a - b).max()) for a, b in zip(one, other, strict=True)) / largest


def place(out: Path, name: str, way: tuple[str, str]) -> Path:
  """Where the weights of a way are kept."""
  backend, dtype = way
  return out / "weights" / f"{name.replace(':', '-')}_{backend or 'here'}_{dtype}.npz"


def work(out: Path, backend: str, dtype: str, names: list[str], calls: int) -> None:
  """Trains all experiments that are not there yet, in this process."""
  for name in names:
    path = place(out, name, (backend, dtype))
    if not path.exists():
      path.parent.mkdir(parents=True, exist_ok=True)
      part = path.with_suffix(".part.npz")
      np.savez(part, *train(name, dtype, calls))
      part.replace(path)
      print(name, backend or "here", dtype, flush=True)


def collect(out: Path, names: list[str]) -> dict[str, dict[str, float | None]]:
  """{experiment: {pair: difference, None: not run}}; also in OUT/correct.json."""

  def read(name, way):
    path = place(out, name, way)
    return list(np.load(path).values()) if path.exists() else None

  found: dict[str, dict[str, float | None]] = {}
  for name in names:
    found[name] = {}
    for pair, (one, other) in PAIRS.items():
      a, b = read(name, one), read(name, other)
      found[name][pair] = None if a is None or b is None else difference(a, b)
  (out / "correct.json").write_text(json.dumps(found, indent=1) + "\n")
  return found


def main(argv: list[str] | None = None) -> int:
  """Runs each way in a process of its own; returns the exit code."""
  parser = argparse.ArgumentParser("python -m benchmarks.correct")
  parser.add_argument("--out", type=Path, required=True)
  parser.add_argument("--only", default="", help="experiments whose name holds this")
  parser.add_argument("--calls", type=int, default=CALLS)
  parser.add_argument("--way", default="", help="BACKEND,DTYPE: only this one, in this process")
  options = parser.parse_args(argv)
  names = [name for name in EXPERIMENTS if options.only in name]
  if options.way:
    work(options.out, *options.way.split(","), names, options.calls)
    return 0
  codes = []
  for backend, dtype in WAYS:
    environment = os.environ | ({"JAX_PLATFORMS": backend} if backend else {})
    command = [sys.executable, "-m", "benchmarks.correct", f"--way={backend},{dtype}"]
    command += [f"--out={options.out}", f"--only={options.only}", f"--calls={options.calls}"]
    codes.append(subprocess.run(command, env=environment).returncode)
  for name, found in collect(options.out, names).items():
    words = (f"{pair} {'not run' if x is None else f'{x:.1e}'}" for pair, x in found.items())
    print(f"{name:24} {'  '.join(words)}")
  return max(codes)


if __name__ == "__main__":
  sys.exit(main())
