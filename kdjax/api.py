"""The library's front door: a config from a name, an experiment from a config, a run from both."""

import inspect
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import jax
from ml_collections import ConfigDict

from kdjax import experiment, measure, needs, plan
from kdjax.checks import PARTIAL, validate
from kdjax.config import (
  OPEN,
  check_names,
  copied,
  no_key,
  place,
  plain,
  read_config,
  replica_seeds,
  schema,
)
from kdjax.core import agreement, hosts
from kdjax.data import dataset
from kdjax.data.sources import Source
from kdjax.ending import DONE
from kdjax.evals import _counting as counting
from kdjax.experiment import Experiment
from kdjax.peers import Mail
from kdjax.plugins import find_method
from kdjax.run import Run
from kdjax.sweep.grid import run_name
from kdjax.training import contract, run_folder
from kdjax.types import ConfigError, blamed
from kdjax.variants import variants

Config: TypeAlias = str | Path | dict[str, Any] | ConfigDict


def get_config(config: Config, **changes: Any) -> ConfigDict:
  """A config, with changes.

  Args:
    config: the name of a packaged config ('mhd_digits', 'mhd_digits:fedavg'), a file, a ConfigDict,
      or a dict of the values that differ from `kdjax.configs.common.base()`.
    **changes: new values by key; keys of groups with a dot, as in **{'algo.teachers': 2}.

  Raises:
    ConfigError: for a config or a key that does not exist.
  """
  if isinstance(config, str | Path):
    changed = read_config(str(config))
  elif isinstance(config, ConfigDict):
    changed = copied(config)
  else:
    changed = _from_dict(config)
  with changed.unlocked(), changed.ignore_type():
    other = changes.get("algorithm", changed.algorithm) != changed.algorithm
    if other and isinstance(changes.get("algo"), dict | ConfigDict):
      changed.algo = ConfigDict()  # the hyper-parameters of another method
    for key, value in changes.items():
      _set(changed, key, value)
  _check_algo(changed, (config if isinstance(config, dict) else {}) | changes)
  return changed.lock()


def _from_dict(given):
  from kdjax.configs import common

  config = common.base()
  with config.ignore_type():
    for key, value in given.items():
      _set(config, key, value)
  return config


def _set(config, key, value):
  """Sets a dotted key; closed groups and `algo` keep the values that are not given."""
  group, name = place(config, key, value)
  check_names(key, value)
  closed = isinstance(schema().get(key), dict) and key not in (*OPEN, *PARTIAL) or key == "algo"
  if closed and isinstance(value, dict | ConfigDict):
    value = {**group[name].to_dict(), **value}
  if not key.startswith("algo.") and name not in group:  # `_check_algo` checks those of `algo`
    raise ConfigError(key, value, no_key(name, group))
  try:
    group[name] = value
  except OverflowError:
    raise ConfigError(key, value, "must be a number that a float can hold") from None


def _check_algo(config, given):
  """Refuses values given for hyper-parameters that the method does not have."""
  algo = {key.split(".")[1]: value for key, value in given.items() if key.startswith("algo.")}
  algo |= given["algo"] if isinstance(given.get("algo"), dict | ConfigDict) else {}
  known = inspect.signature(find_method(config.algorithm).hyper).parameters if algo else ()
  for name, value in algo.items():
    if name not in known:
      raise ConfigError(f"algo.{name}", value, no_key(name, known))


def build(
  config: Config, *, data: Source | None = None, devices: list[jax.Device] | None = None
) -> Experiment:
  """Builds the experiment that a config describes.

  Args:
    config: as in `get_config`.
    data: examples in memory, see `kdjax.arrays`; None: the data that the config names.
    devices: jax devices to use; None: all, but only as many of a CPU's host devices as are useful.

  Raises:
    ConfigError: for anything in the config that cannot work.
  """
  config = get_config(config)
  built = experiment.build(config, data=_dealt(config, data), devices=devices)
  built.check_start()
  needs.check(built, built.shapes())
  return built


def _dealt(config, data):
  """In-memory examples, dealt to the clients as the config says; None stays None."""
  if data is None:
    return None
  if not isinstance(data, Source):
    hint = "wrap it: kdjax.arrays(train=(X, y), ...), with test=(X, y) or `holdout` in the config"
    raise ConfigError("data", type(data).__name__, hint)
  whole = plain(config)
  validate(whole)
  return dataset.hand_out(whole, data, replica_seeds(whole))


def train(
  config: Config,
  workdir: str | Path,
  *,
  data: Source | None = None,
  devices: list[jax.Device] | None = None,
  stop: Callable[[], bool] = lambda: False,
) -> Run:
  """Trains a config's method, then the variants it is compared with; the same call resumes.

  Args:
    config, data, devices: as in `build`.
    workdir: the run's folder.
    stop: called between dispatches; when it returns true, the run saves and ends.

  Returns:
    The run; its `summary` is None if it was stopped, or if the disk takes no checkpoint.

  Raises:
    ConfigError: for anything that cannot work, before any training.
    TrainingError: if a loss is no longer finite.
  """
  config = get_config(config)
  dealt = _dealt(config, data)
  run_folder.check_data(workdir, plain(config), dealt)
  begun = run_folder.is_begun(workdir)
  everything = experiments(config, data=dealt, devices=devices, begun=begun)
  run(everything, Path(workdir), command=f"kdjax.train(..., {str(workdir)!r})", stop=stop)
  return Run(workdir)


def train_grid(
  config: Config,
  workdir: str | Path,
  grid: dict[str, Sequence[Any]],
  *,
  data: Source | None = None,
  devices: list[jax.Device] | None = None,
) -> list[tuple[dict[str, Any], Run]]:
  """Trains a config at every point of a grid, one after another; the same call resumes.

  Seeds are the config's `replicas`, which train side by side. `kdjax sweep` does the same with a
  process per run.

  Args:
    config, data, devices: as in `train`.
    workdir: the folder of the runs' folders.
    grid: values by key, as in {'algo.teachers': (1, 2), 'optim.lr': (0.01, 0.02)}.

  Returns:
    (what a run sets of the grid, its Run) for every point, the last key's values fastest.

  Raises:
    ConfigError: for keys and values that no run can have, before the first begins; else as `train`.
    TrainingError: as `train`.
  """
  points = []
  for values in itertools.product(*grid.values()):
    settings = dict(zip(grid, values, strict=True))
    point = get_config(get_config(config), **settings)
    validate(plain(point))
    points.append((settings, point))
  runs = []
  for settings, point in points:
    folder = Path(workdir) / run_name(settings)
    runs.append((settings, train(point, folder, data=data, devices=devices)))
  return runs


def experiments(
  config: ConfigDict,
  *,
  data: dataset.Data | None = None,
  devices: list[jax.Device] | None = None,
  begun: bool = False,
) -> dict[str, Experiment]:
  """Builds the config's experiment under '', then its variants, on the same split.

  A new run on a kind of device that was never measured begins with `measure.contest`, which takes
  some minutes.

  Args:
    config, data, devices: as in `build`.
    begun: whether the run is resumed; the files that only its first step needs may then be missing.

  Raises:
    ConfigError: for anything that cannot work, or that does not fit into this machine.
  """
  validate(plain(config))
  others = variants(config)  # an error in any of them is raised before any work
  if data is None and begun:
    data = _reopened(config)
  built = _built(config, others, data, devices)
  for planned in built.values():
    if not begun:
      planned.check_start()
    needs.check(planned, planned.shapes())
  if devices is None and not begun and hosts.alone():
    opened = built[""].data
    if measure.contest(config, measure.CONTEST, data=opened, say=agreement.say):
      built = _built(config, others, opened, devices)  # in the form that has won
  return {name: needs.fitted(planned) for name, planned in built.items()}


def _reopened(config):
  """The data of a resumed run: images that were damaged since are replaced, not refused."""
  whole = plain(config)
  validate(whole)
  return dataset.open_data(whole, replica_seeds(whole), begun=True)


def _built(config, others, data, devices):
  """{name: experiment}, all on the same data."""
  first = experiment.build(config, data=data, devices=devices)
  built = {"": first}
  for name, other in others.items():
    with blamed(f"compare.{name}"):
      built[name] = experiment.build(other, data=first.data, devices=devices)
  for planned in built.values():
    name = planned.config["algorithm"]
    if ":" in name:  # a user's own method is checked before any training
      for visit in plan.first_visits(planned):
        plan.trace(planned, visit)
      counting.entries(planned)
      contract.check_facts(name, planned.algorithm.facts(planned.visits[-1].round + 1))
  return built


def peer(
  config: ConfigDict,
  mail: Mail,
  *,
  data: dataset.Data | None = None,
  devices: list[jax.Device] | None = None,
  begun: bool = False,
) -> Experiment:
  """Builds the experiment of a peer: `mail.own` of the config's clients, without any baselines.

  Args:
    config, data, devices, begun: as in `experiments`.
    mail: which clients train here, and how they meet the others.

  Raises:
    ConfigError: for anything in the config that cannot work, or a method whose clients cannot
      train apart.
  """
  if data is None and begun:
    data = _reopened(config)
  made = experiment.build(config, data=data, devices=devices, mail=mail)
  mail.open(made.hash, made.visits[-1].round + 1)
  return made


def run(
  experiments: dict[str, Experiment],
  workdir: Path,
  *,
  command: str,
  stop: Callable[[], bool] = lambda: False,
  profile: int = 0,
) -> int:
  """Trains one experiment after another, in WORKDIR and WORKDIR/NAME; see `loop.run`.

  Only the first one is profiled.
  """
  from kdjax.training import loop

  for name, planned in experiments.items():
    run_folder.check_config(workdir / name, planned.config)
  for name, planned in experiments.items():
    steps = 0 if name else profile
    how: dict[str, Any] = dict(command=command, stop=stop, profile=steps, name=name)
    code = loop.run(planned, workdir / name, **how)
    if code != DONE:
      return code
  return DONE
