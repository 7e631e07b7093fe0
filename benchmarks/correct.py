"""Compares an accelerator's results with the CPU's: every method, leaf by leaf.

  python -m benchmarks.correct --out=DIR      everything, on the CPU and on the default backend

Each experiment trains from the same weights on the same batches in float64 and float32, and in
bfloat16 on the accelerator. It takes two turns of its method's cycle, in which every phase runs,
and at least twenty calls. DIR/correct.json has, for each, the largest difference of a weight over
the largest weight. The exit code is 1 if one exceeds its limit.

In float32 products have `jax_default_matmul_precision='highest'`, since a GPU's default, TF32, has
ten bits. A gate amplifies rounding, so weights may differ more in float32, but not in float64.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np


class Pair(NamedTuple):
  """Two ways to compare, each (backend, dtype); backend '' is the default one."""

  one: tuple[str, str]
  other: tuple[str, str]
  limit: float  # of the difference


SMALL = {"limit": 500}  # training images: short epochs
RESNET = {"clients": ((5, "cifar_resnet", {"depth": 8}),), "algo.refresh_every": 4}
EXPERIMENTS: dict[str, tuple[str, dict[str, Any]]] = {  # name: (config, changes)
  "mhd": ("mhd_digits", {"algo.refresh_every": 4}),
  "mhd_resnet": ("mhd_digits", RESNET),
  "mhd_resnet_vmap": ("mhd_digits", RESNET | {"mesh.map": "vmap"}),
  "separate": ("mhd_digits:separate", {"steps": 20}),
  "fedavg": ("mhd_digits:fedavg", {"algo.local_steps": 4}),
  "kd": ("mhd_digits:kd", SMALL),
  "gossip": ("mhd_digits:gossip", SMALL),
  "fedmd": (
    "fedmd_digits",
    SMALL | {"algo.private_epochs": 1, "algo.alignment": 64, "algo.revisit_epochs": 1},
  ),
  "fedgkt": (
    "fedgkt_digits",
    {"limit": 200, "algo.server_epochs": 1, "algo.server_batch": 64},
  ),
  "async_edge": (
    "async_edge_digits",
    {"algo.core_epochs": 1, "algo.edge_epochs": 1, "algo.distil_epochs": 1},
  ),
  "pairwise": ("pairwise_digits", SMALL),
}
# The limit of the ResNet in float32. A loop over clients and one batched program differ by 2.3e-3
# even on one CPU, because a gate amplifies rounding. In float64 they differ by 3e-16, and the other
# experiments by 1.1e-6 at most.
RESNET_LIMIT = 2e-2
TURNS, CALLS = 2, 20  # the turns of the cycle, and the least number of calls
PAIRS = {
  "float64": Pair(("cpu", "float64"), ("", "float64"), 1e-9),
  "float32": Pair(("cpu", "float32"), ("", "float32"), 1e-3),
  "bfloat16 beside float32": Pair(("", "float32"), ("", "bfloat16"), 0.2),
}
WAYS = tuple(dict.fromkeys(way for pair in PAIRS.values() for way in pair[:2]))


def build(name: str, dtype: str):
  """Builds an experiment on one device of this process's backend."""
  import jax

  from kdjax import api

  config, changes = EXPERIMENTS[name]
  always = {"model.dtype": dtype, "replicas": 1, "compare": (), "mesh.map": "scan"}
  config = api.get_config(config, **(always | {"mesh.steps_per_dispatch": 1} | changes))
  if "server" in config.algo:  # the server has a network of its own
    network, arguments = config.algo.server
    with config.unlocked():
      config.algo.server = (network, {**arguments, "dtype": dtype})
  return api.experiments(config, devices=jax.devices()[:1])[""]


def length(visits) -> int:
  """The calls of an experiment to compare: whole turns of the cycle, and at least `CALLS`."""
  turns = max(v.start + v.calls for v in visits if v.round < TURNS)
  return max(CALLS, turns)


def train(name: str, dtype: str, calls: int) -> list[np.ndarray]:
  """All parameters after `calls` calls of an experiment's phases; 0: after `length`."""
  import jax

  from kdjax.training.stepper import Stepper

  jax.config.update("jax_enable_x64", dtype == "float64")
  with jax.default_matmul_precision(None if dtype == "bfloat16" else "highest"):
    stepper = Stepper(build(name, dtype))
    state = stepper.init()
    calls = calls or length(stepper.experiment.visits)
    for call, dispatch in enumerate(stepper.dispatches(0)):
      if call == calls:
        break
      state, _ = stepper.run(state, dispatch)
  params = [client.params for client in state.clients]
  return [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(jax.device_get(params))]


def difference(one: list[np.ndarray], other: list[np.ndarray]) -> float:
  """The largest difference of a weight over the largest weight of `one`; nan if any is nan."""
  largest = max(float(np.abs(a).max()) for a in one)
  return float(np.max([np.abs(a - b).max() for a, b in zip(one, other, strict=True)])) / largest


def place(out: Path, name: str, way: tuple[str, str]) -> Path:
  """The file of the weights of a way."""
  backend, dtype = way
  return out / "weights" / f"{name}_{backend or 'here'}_{dtype}.npz"


def work(out: Path, backend: str, dtype: str, names: list[str], calls: int) -> None:
  """Trains all experiments whose weights are missing, in this process."""
  for name in names:
    path = place(out, name, (backend, dtype))
    if not path.exists():
      path.parent.mkdir(parents=True, exist_ok=True)
      part = path.with_suffix(".part.npz")
      np.savez(part, *train(name, dtype, calls))
      part.replace(path)
      print(name, backend or "here", dtype, flush=True)


def collect(out: Path, names: list[str]) -> dict[str, dict[str, float | None]]:
  """Compares the weights; returns and writes {experiment: {pair: difference, None: not run}}."""

  def read(name, way):
    path = place(out, name, way)
    return list(np.load(path).values()) if path.exists() else None

  found: dict[str, dict[str, float | None]] = {}
  for name in names:
    found[name] = {}
    for pair, (one, other, _) in PAIRS.items():
      a, b = read(name, one), read(name, other)
      found[name][pair] = None if a is None or b is None else difference(a, b)
  (out / "correct.json").write_text(json.dumps(found, indent=1) + "\n")
  return found


def limit(name: str, pair: str) -> float:
  """The largest allowed difference of an experiment's weights in a pair of ways."""
  return RESNET_LIMIT if (pair, "resnet" in name) == ("float32", True) else PAIRS[pair].limit


def exceeded(found: dict[str, dict[str, float | None]]) -> list[str]:
  """The differences above their limits, in words; nan is above every limit."""
  return [
    f"{name}, {pair}: {value:.1e} exceeds {limit(name, pair):g}"
    for name, pairs in found.items()
    for pair, value in pairs.items()
    if value is not None and not value <= limit(name, pair)
  ]


def main(argv: list[str] | None = None) -> int:
  """Runs each way in a process of its own, all at once; compares the weights.

  SIGTERM ends the processes; the weights finished by then are compared.

  Returns:
    0 if all processes ended well, within the limits.
  """
  parser = argparse.ArgumentParser("python -m benchmarks.correct")
  parser.add_argument("--out", type=Path, required=True)
  parser.add_argument("--only", default="", help="experiments whose name holds this")
  parser.add_argument("--calls", type=int, default=0, help="0: see above")
  parser.add_argument("--way", default="", help="BACKEND,DTYPE: only this one, in this process")
  options = parser.parse_args(argv)
  names = [name for name in EXPERIMENTS if options.only in name]
  if options.way:
    work(options.out, *options.way.split(","), names, options.calls)
    return 0
  signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
  children = [start(way, options) for way in WAYS]
  try:
    codes = [child.wait() for child in children]
  finally:
    for child in children:
      child.kill()
    found = collect(options.out, names)
    for name, pairs in found.items():
      words = (f"{pair} {'not run' if x is None else f'{x:.1e}'}" for pair, x in pairs.items())
      print(f"{name:16} {'  '.join(words)}")
    print("\n".join(exceeded(found)), flush=True)
  return int(any(codes) or bool(exceeded(found)))


def start(way: tuple[str, str], options: argparse.Namespace) -> subprocess.Popen:
  """Starts the process that trains everything in one way; several share the accelerator."""
  backend, dtype = way
  environment = os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
  environment |= {"JAX_PLATFORMS": backend} if backend else {}
  command = [sys.executable, "-m", "benchmarks.correct", f"--way={backend},{dtype}"]
  command += [f"--out={options.out}", f"--only={options.only}", f"--calls={options.calls}"]
  return subprocess.Popen(command, env=environment)


if __name__ == "__main__":
  sys.exit(main())
