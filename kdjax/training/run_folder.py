"""The identity of a run folder: `config.json`, written once and compared at every later call."""

import contextlib
import subprocess
from collections.abc import Iterator
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


# Keys that, besides the data, decide the content of a set.
HELD_BY = ("holdout", "limit", "public_source")
SAMPLED = 2048  # resident training examples whose values are summarised
CONFIG, SUMMARY = "config.json", "summary.json"
CHECKPOINTS, SAVED = "checkpoints", "saved.json"


def steps(workdir: str | Path) -> list[int]:
  """The steps of a folder's checkpoints, ascending; creates nothing."""
  folder = Path(workdir) / CHECKPOINTS  # a checkpoint that is being saved has a longer name
  names = [p.name for p in folder.glob("*") if p.name.isdigit()]
  return sorted(int(name) for name in names if name == str(int(name)))


def ever_saved(workdir: str | Path) -> bool:
  """Whether a run has ever saved a checkpoint, even if its checkpoints are gone."""
  has_any = any((Path(workdir) / CHECKPOINTS).glob("damaged-*")) or bool(steps(workdir))
  return has_any or any((Path(workdir) / name).exists() for name in (SAVED, SUMMARY))


def check_config(workdir: str | Path, config: dict[str, Any]) -> None:
  """Raises ConfigError if a folder belongs to another config, and names the key that differs."""
  record = _record(workdir)
  for key, old, new in differences(record["config"], config) if record else ():
    hint = f"{workdir} was begun with {key} = {old!r}; use another --workdir or that value"
    raise ConfigError(key, new, hint)


def check_data(workdir: str | Path, config: dict[str, Any], data: "Data | None") -> None:
  """Refuses in-memory data that are not those of a folder's run, or their absence.

  It is called before an experiment is built of the data, since the error would otherwise blame
  whatever the data do not fit.

  Args:
    workdir: the folder.
    config: nested dict.
    data: in-memory data, dealt to the clients; None: the config names its source.

  Raises:
    ConfigError: names the data that the run began with.
  """
  record = _record(workdir)
  if record is None:
    return
  begun = record["config"]
  name = begun.get("source", "digits")
  if data is None and not sources.is_name(name):
    hint = (
      f"was begun with arrays in memory, {name!r}: kdjax.train(..., data=...) resumes with them"
    )
    raise ConfigError("workdir", str(workdir), hint)
  if data is None or "data" not in record or any(begun.get(k) != config[k] for k in HELD_BY):
    return
  if record["data"] != fingerprint.examples(data):
    hint = f"was begun with other examples, of {name!r}: give the same data=, or another workdir"
    raise ConfigError("workdir", str(workdir), hint)


def check(workdir: str | Path, experiment: "Experiment") -> None:
  """Raises ConfigError if a folder belongs to another config, or to other examples."""
  check_config(workdir, experiment.config)
  fingerprint.check(workdir, _record(workdir) or {}, experiment)


def is_begun(workdir: str | Path) -> bool:
  """Whether a folder holds a run already."""
  return (Path(workdir) / CONFIG).exists()


def _record(workdir) -> dict[str, Any] | None:
  """`config.json`; None if it is missing, or if it is damaged and no checkpoint depends on it."""
  workdir = Path(workdir)
  path = workdir / CONFIG
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
  """Reads `config.json`, which `claim` wrote.

  Raises:
    ConfigError: if there is no run, or its record is damaged.
  """
  path = Path(workdir) / CONFIG
  if not path.exists():
    raise ConfigError("workdir", str(workdir), "holds no config.json: not a run's folder")
  record = files.read_json(path)
  if not isinstance(record.get("config"), dict):
    raise ConfigError("file", str(path), "is damaged: it holds no config")
  return record


def claim(workdir: str | Path, experiment: "Experiment", command: str) -> None:
  """Checks that a folder belongs to this config; writes `config.json` if it is missing."""
  check_config(workdir, experiment.config)
  path = Path(workdir) / CONFIG
  if _record(workdir) is None:
    if path.exists() or ever_saved(workdir):
      agreement.say(f"{path} was {'damaged' if path.exists() else 'gone'}: it is written again")
    files.write_json(path, provenance(experiment) | {"command": command})


def finished(workdir: str | Path, batches: int) -> bool:
  """Whether a run of `batches` batches is done; a damaged `summary.json` is removed.

  Raises:
    ConfigError: for a summary that is not a file.
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
  """Notes in `config.json` that a run has another length now, from its `done` batches on."""
  path = Path(workdir) / CONFIG
  record = read(workdir)
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
    f"{workdir} continues from step {done} with {key} = {new} instead of {old}: "
    "the learning rate follows the new length from there"
  )


def provenance(experiment: "Experiment") -> dict[str, Any]:
  """The contents of `config.json`: resolved config, versions, devices, commit, hash, sizes."""
  import flax
  import optax
  import orbax.checkpoint

  import kdjax

  modules = {"kdjax": kdjax, "jax": jax, "flax": flax, "optax": optax, "numpy": np}
  versions = {name: m.__version__ for name, m in modules.items()}
  versions["orbax-checkpoint"] = orbax.checkpoint.__version__
  env = experiment.env
  mesh = env.mesh
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
  """The indices of the training examples at hand: all; in a peer, those of its own clients."""
  if not experiment.env.is_peer:
    return np.arange(len(experiment.data.source.train.labels))
  private = experiment.data.shards.private
  return np.sort(np.concatenate([private[k] for k in experiment.env.local_ids]))


def _values(experiment, indices):
  """Statistics of the training examples' values, from an evenly spaced sample."""
  count = SAMPLED if experiment.data.source.train.array is not None else 64
  chosen = np.unique(np.linspace(0, len(indices) - 1, count).astype(np.int64))
  sample = np.asarray(experiment.unreadable.fetch("private", indices[chosen]))
  return {
    "dtype": str(sample.dtype),
    "min": float(sample.min()),
    "max": float(sample.max()),
    "mean": float(sample.mean(dtype=np.float64)),
    "std": float(sample.std(dtype=np.float64)),
  }


def _commit():
  folder = Path(__file__).parent
  command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12"]
  try:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
  except (OSError, subprocess.CalledProcessError):
    return "unknown"


class UnwrittenError(Exception):
  """The disk refuses the run's own files."""


@contextlib.contextmanager
def own_files(workdir: str | Path) -> Iterator[None]:
  """Turns an OSError into an UnwrittenError: nothing but the run's own files is written inside."""
  try:
    yield
  except OSError as error:
    reason = f"{error.filename or workdir} cannot be written: {error.strerror}"
    raise UnwrittenError(reason) from None
