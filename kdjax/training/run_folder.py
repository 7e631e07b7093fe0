"""Whose a run folder is: `config.json`, written once and compared ever after."""

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from kdjax.config import LENGTH, differences
from kdjax.core import agreement, files
from kdjax.core.machine import cores
from kdjax.data import sources
from kdjax.training import fingerprint
from kdjax.types import ConfigError

if TYPE_CHECKING:
  from kdjax.data.dataset import Data
  from kdjax.experiment import Experiment


HELD_BY = ("holdout", "limit", "public_source")  # what decides, besides the data, what is in a set
SAMPLED = 2048  # resident training examples whose values are looked at
CONFIG, SUMMARY = "config.json", "summary.json"
CHECKPOINTS, SAVED = "checkpoints", "saved.json"


def steps(workdir: str | Path) -> list[int]:
  """The training batches of which a folder holds a checkpoint, ascending; creates nothing."""
  folder = Path(workdir) / CHECKPOINTS  # one being saved has a longer name
  names = [p.name for p in folder.glob("*") if p.name.isdigit()]
  return sorted(int(name) for name in names if name == str(int(name)))


def ever_saved(workdir: str | Path) -> bool:
  """Whether a run has saved anything: its record stays when its checkpoints are gone."""
  left = any((Path(workdir) / CHECKPOINTS).glob("damaged-*")) or bool(steps(workdir))
  return left or any((Path(workdir) / name).exists() for name in (SAVED, SUMMARY))


def check_config(workdir: str | Path, config: dict[str, Any]) -> None:
  """Raises ConfigError where a folder belongs to another config, naming what differs."""
  record = _record(workdir)
  for key, old, new in differences(record["config"], config) if record else ():
    hint = f"{workdir} was begun with {key} = {old!r}; use another --workdir or that value"
    raise ConfigError(key, new, hint)


def check_data(workdir: str | Path, config: dict[str, Any], data: "Data | None") -> None:
  """Refuses arrays in memory that are not those of a folder's run, and their lack.

  This is asked before an experiment is built of the data, or what they do not fit would be blamed.

  Args:
    workdir: the folder.
    config: nested dict.
    data: what `kdjax.arrays` was handed out to; None: the config names its source.

  Raises:
    ConfigError: says with which data the run was begun.
  """
  record = _record(workdir)
  if record is None:
    return
  begun = record["config"]
  name = begun.get("source", "digits")
  if data is None and not sources.is_name(name):
    hint = (
      f"was begun with arrays in memory, {name!r}: kdjax.train(..., data=...) goes on with them"
    )
    raise ConfigError("workdir", str(workdir), hint)
  if data is None or "data" not in record or any(begun.get(k) != config[k] for k in HELD_BY):
    return
  if record["data"] != fingerprint.examples(data):
    hint = f"was begun with other examples, of {name!r}: give the same data=, or another workdir"
    raise ConfigError("workdir", str(workdir), hint)


def check(workdir: str | Path, experiment: "Experiment") -> None:
  """Raises ConfigError where a folder belongs to another config, or to other examples."""
  check_config(workdir, experiment.config)
  fingerprint.check(workdir, _record(workdir) or {}, experiment)


def is_begun(workdir: str | Path) -> bool:
  """Whether a run lives in a folder already."""
  return (Path(workdir) / CONFIG).exists()


def _record(workdir) -> dict[str, Any] | None:
  """`config.json`; None where there is none, or a damaged one and nothing that depends on it."""
  workdir, path = Path(workdir), Path(workdir) / CONFIG
  try:
    if workdir.exists() and not workdir.is_dir():
      raise ConfigError("workdir", str(workdir), "must be a folder")
    if not path.exists():
      return None
    return read(workdir)
  except PermissionError as error:
    raise ConfigError("workdir", str(workdir), f"cannot be read: {error.strerror}") from None
  except ConfigError:
    if path.is_file() and not ever_saved(workdir):
      return None
    raise


def read(workdir: str | Path) -> dict[str, Any]:
  """What `claim` wrote.

  Raises:
    ConfigError: where there is no run, or its record is damaged.
  """
  path = Path(workdir) / CONFIG
  if not path.exists():
    raise ConfigError("workdir", str(workdir), "holds no config.json: not a run's folder")
  record = files.read_json(path)
  if not isinstance(record.get("config"), dict):
    raise ConfigError("file", str(path), "is damaged: it holds no config")
  return record


def claim(workdir: str | Path, experiment: "Experiment", command: str) -> None:
  """Checks that a folder belongs to this config; writes `config.json` where there is none."""
  check_config(workdir, experiment.config)
  path = Path(workdir) / CONFIG
  if _record(workdir) is None:
    if path.exists() or ever_saved(workdir):
      agreement.say(f"{path} was {'damaged' if path.exists() else 'gone'}: written anew")
    files.write_json(path, provenance(experiment) | {"command": command})


def finished(workdir: str | Path, batches: int) -> bool:
  """Whether a run of so many batches is done; a damaged `summary.json` is removed, to be made anew.

  Raises:
    ConfigError: for a summary that is no file.
  """
  path = Path(workdir) / SUMMARY
  if not path.exists() or steps(workdir)[-1:] != [batches]:
    return False
  try:
    return bool(files.read_json(path))
  except ConfigError:
    if not path.is_file():
      raise
    agreement.say(f"{path} is damaged: it is written again")
    path.unlink()
    return False


def extend(workdir: str | Path, config: dict[str, Any], done: int) -> None:
  """Notes in `config.json` that a run that had done so many batches has another length now."""
  path, record = Path(workdir) / CONFIG, read(workdir)
  key = next((key for key in LENGTH if record["config"][key] != config[key]), None)
  if key is None:
    return
  old, new = record["config"][key], config[key]
  record["config"][key] = new
  record["extended"] = [*record.get("extended", []), {"from": done, key: old}]
  files.write_json(path, record)
  summary = path.with_name(SUMMARY)
  if summary.exists():
    summary.rename(path.with_name(f"summary-{done}.json"))
  agreement.say(
    f"{workdir} goes on from step {done} with {key} = {new} instead of {old}: "
    "the learning rate follows the new length from there"
  )


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
      "blocks": "scan" if env.scan else "unroll",
      "conv": [getattr(c.model, "conv", None) for c in env.cohorts],
      "steps_per_dispatch": experiment.steps_per_dispatch,
    },
    "git": _commit(),
    "hash": experiment.hash,
    "data": fingerprint.examples(experiment.data),
    "code": fingerprint.code(experiment.config),
    "here": list(env.local_ids),  # the clients that train in this folder
    "examples": {
      half: [len(x) for x in getattr(experiment.data.shards, half)]
      for half in ("private", "public")
    }
    | {"test": len(experiment.data.source.test.labels)},
    "values": _values(experiment, _held(experiment)),
  }


def _held(experiment):
  """Places of the training examples that are there: all; in a peer, its own clients'."""
  if not experiment.env.is_peer:
    return np.arange(len(experiment.data.source.train.labels))
  private = experiment.data.shards.private
  return np.sort(np.concatenate([private[k] for k in experiment.env.local_ids]))


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
