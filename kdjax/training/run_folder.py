"""Whose a run folder is: `config.json`, written once and compared ever after."""

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from kdjax.config import differences
from kdjax.core import files
from kdjax.core.machine import cores
from kdjax.types import ConfigError

if TYPE_CHECKING:
  from kdjax.experiment import Experiment


SAMPLED = 2048  # resident training examples whose values are looked at


def check_config(workdir: str | Path, config: dict[str, Any]) -> None:
  """Raises ConfigError where a folder belongs to another config, naming what differs."""
  path = Path(workdir) / "config.json"
  if Path(workdir).exists() and not Path(workdir).is_dir():
    raise ConfigError("workdir", str(workdir), "must be a folder")
  if not path.exists():
    return
  for key, old, new in differences(files.read_json(path)["config"], config):
    hint = f"{workdir} was begun with {key} = {old!r}; use another --workdir or that value"
    raise ConfigError(key, new, hint)


def is_begun(workdir: str | Path) -> bool:
  """Whether a run lives in a folder already."""
  return (Path(workdir) / "config.json").exists()


def read(workdir: str | Path) -> dict[str, Any]:
  """What `claim` wrote.

  Raises:
    ConfigError: where there is no run.
  """
  path = Path(workdir) / "config.json"
  if not path.exists():
    raise ConfigError("workdir", str(workdir), "holds no config.json: not a run's folder")
  return files.read_json(path)


def claim(workdir: str | Path, experiment: "Experiment", command: str) -> None:
  """Checks that a folder belongs to this config; writes `config.json` where there is none."""
  check_config(workdir, experiment.config)
  path = Path(workdir) / "config.json"
  if not path.exists():
    written = provenance(experiment) | {"command": command}
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_json(path, written)


def provenance(experiment: "Experiment") -> dict[str, Any]:
  """What `config.json` holds: the resolved config, versions, devices, commit, hash, sizes."""
  import flax
  import optax
  import orbax.checkpoint

  import kdjax

  modules = {"kdjax": kdjax, "jax": jax, "flax": flax, "optax": optax, "numpy": np}
  versions = {name: m.__version__ for name, m in modules.items()}
  versions["orbax-checkpoint"] = orbax.checkpoint.__version__
  env, mesh = experiment.env, experiment.env.mesh
  return {
    "config": experiment.config,
    "versions": versions,
    "device": f"{mesh.size} x {mesh.devices.flat[0].device_kind} ({cores()} CPU cores)",
    "layout": {
      "mesh": dict(mesh.shape),
      "map": env.local_map,
      "conv": [getattr(c.model, "conv", None) for c in env.cohorts],
      "steps_per_dispatch": experiment.steps_per_dispatch,
    },
    "git": _commit(),
    "hash": experiment.hash,
    "here": list(env.here),  # the clients that train in this folder
    "examples": {
      half: [len(x) for x in getattr(experiment.data.shards, half)]
      for half in ("private", "public")
    },
    "values": _values(experiment, _held(experiment)),
  }


def _held(experiment):
  """Places of the training examples that are there: all; in a peer, its own clients'."""
  if not experiment.env.apart:
    return np.arange(len(experiment.data.source.train.labels))
  return np.sort(np.concatenate([experiment.data.shards.private[k] for k in experiment.env.here]))


def _values(experiment, places):
  """What the training examples look like, of some thousand of them, evenly spaced."""
  count = SAMPLED if experiment.data.source.train.array is not None else 64
  at = np.unique(np.linspace(0, len(places) - 1, count).astype(np.int64))
  some = np.asarray(experiment.unreadable.fetch("private", places[at]))
  return {
    "dtype": str(some.dtype),
    "min": float(some.min()),
    "max": float(some.max()),
    "mean": float(some.mean(dtype=np.float64)),
    "std": float(some.std(dtype=np.float64)),
  }


def _commit():
  here = Path(__file__).parent
  ask = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=12"]
  try:
    return subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip()
  except (OSError, subprocess.CalledProcessError):
    return "unknown"
