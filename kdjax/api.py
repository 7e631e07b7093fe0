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
from kdjax.experiment import Experiment
from kdjax.peers import Mail
from kdjax.plugins import find_method
from kdjax.run import Run
from kdjax.sweep.grid import run_name
from kdjax.training import run_folder
from kdjax.types import ConfigError, blamed
from kdjax.variants import variants

Config: TypeAlias = str | Path | dict[str, Any] | ConfigDict


def get_config(config: Config, **changes: Any) -> ConfigDict:
  """A config, with changes.

  Args:
    config: the name of a packaged one ('mhd_digits', 'mhd_digits:fedavg'), a file, a ConfigDict, or
      a dict of what differs from `kdjax.configs.common.base()`.
    **changes: new values by key; keys of groups with a dot, as in **{'algo.teachers': 2}.

  Raises:
    ConfigError: for a config or a key that is not there.
  """
  if isinstance(config, str | Path):
    found = read_config(str(config))
  elif isinstance(config, ConfigDict):
    found = copied(config)
  else:
    found = _from_dict(config)
  with found.unlocked(), found.ignore_type():
    other = changes.get("algorithm", found.algorithm) != found.algorithm
    if other and isinstance(changes.get("algo"), dict | ConfigDict):
      found.algo = ConfigDict()  # another method's
    for key, value in changes.items():
      _set(found, key, value)
  _check_algo(found, (config if isinstance(config, dict) else {}) | changes)
  return found.lock()


def _from_dict(given):
  from kdjax.configs import common

  config = common.base()
  with config.ignore_type():
    for key, value in given.items():
      _set(config, key, value)
  return config


def _set(config, key, value):
  """Sets a dotted key; groups take what they are given, closed ones and `algo` over what is there.

  A method's `algo` stays while the method does: `get_config` sets `algorithm` first.
  """
  group, name = place(config, key, value)
  check_names(key, value)
  closed = isinstance(schema().get(key), dict) and key not in (*OPEN, *PARTIAL) or key == "algo"
  if closed and isinstance(value, dict | ConfigDict):
    value = {**group[name].to_dict(), **value}
  if not key.startswith("algo.") and name not in group:  # a method's own: `_check_algo`
    raise ConfigError(key, value, no_key(name, group))
  try:
    group[name] = value
  except OverflowError:
    raise ConfigError(key, value, "must be a number that a float can hold") from None


def _check_algo(config, given):
  """Refuses what is given for `algo` where the method has no such hyper-parameter."""
  own = {key.split(".")[1]: value for key, value in given.items() if key.startswith("algo.")}
  own |= given["algo"] if isinstance(given.get("algo"), dict | ConfigDict) else {}
  known = inspect.signature(find_method(config.algorithm).hyper).parameters if own else ()
  for name, value in own.items():
    if name not in known:
      raise ConfigError(f"algo.{name}", value, no_key(name, known))


def build(
  config: Config, *, data: Source | None = None, devices: list[jax.Device] | None = None
) -> Experiment:
  """The experiment that a config describes.

  Args:
    config: what `get_config` takes.
    data: examples in memory, see `kdjax.arrays`; None: what the config names.
    devices: jax devices to use; None: all, but of a CPU's host devices as many as pay.

  Raises:
    ConfigError: for whatever in the config cannot work.
  """
  config = get_config(config)
  built = experiment.build(config, data=_handed_out(config, data), devices=devices)
  built.check_start()
  needs.check(built, built.shapes())
  return built


def _handed_out(config, data):
  """In-memory examples, handed out to the clients as the config says; None stays None."""
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
  """Trains a config's method, then those that it is compared with; the same call resumes.

  Args:
    config, data, devices: as in `build`.
    workdir: the run's folder.
    stop: asked between dispatches; when true, the run saves and returns.

  Returns:
    Its folder; `summary` is None where it was stopped, or the disk takes no checkpoint.

  Raises:
    ConfigError: for whatever cannot work, before any work is done.
    TrainingError: where a loss is no longer finite.
  """
  config = get_config(config)
  given = dict(data=_handed_out(config, data), devices=devices)
  run_folder.check_data(workdir, plain(config), given["data"])
  everything = experiments(config, begun=run_folder.is_begun(workdir), **given)
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
  """Trains a config at every point of a grid, one after the other; the same call resumes.

  Seeds are the config's `replicas`, which train side by side. `kdjax sweep` does the same with a
  process per run.

  Args:
    config, data, devices: as in `train`.
    workdir: the folder of the runs' folders.
    grid: values by key, as in {'algo.teachers': (1, 2), 'optim.lr': (0.01, 0.02)}.

  Returns:
    (what a run sets of the grid, its Run) for every point, the last key's values fastest.

  Raises:
    ConfigError: as `train`; for all points before the first begins.
    TrainingError: as `train`.
  """
  settings = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
  points = [(one, get_config(get_config(config), **one)) for one in settings]
  for _, point in points:
    validate(plain(point))
  folder = Path(workdir)
  return [
    (one, train(point, folder / run_name(one), data=data, devices=devices)) for one, point in points
  ]


def experiments(
  config: ConfigDict,
  *,
  data: dataset.Data | None = None,
  devices: list[jax.Device] | None = None,
  begun: bool = False,
) -> dict[str, Experiment]:
  """The config's experiment under '', then those that it is compared with, on the same split.

  On a kind of device that was never measured a new one begins with `measure.contest`, some minutes.

  Args:
    config, data, devices: as in `build`.
    begun: whether the run goes on: what only its first step needs may be gone.

  Raises:
    ConfigError: for whatever cannot work, or does not fit into this machine.
  """
  validate(plain(config))
  others = variants(config)  # whatever is wrong with any of them is said before work
  if data is None and begun:
    data = _reopened(config)
  found = _built(config, others, data, devices)
  for one in found.values():
    if not begun:
      one.check_start()
    needs.check(one, one.shapes())
  if devices is None and not begun and hosts.alone():
    known = found[""].data
    if measure.contest(config, measure.CONTEST, data=known, say=agreement.say):
      found = _built(config, others, known, devices)  # in the form that has won
  return {name: needs.fitted(one) for name, one in found.items()}


def _reopened(config):
  """The Data of a run that goes on: images that were damaged since are replaced, not refused."""
  whole = plain(config)
  validate(whole)
  return dataset.open_data(whole, replica_seeds(whole), begun=True)


def _built(config, others, data, devices):
  """{name: experiment}, all on the same data."""
  first = experiment.build(config, data=data, devices=devices)
  found = {"": first}
  for name, other in others.items():
    with blamed(f"compare.{name}"):
      found[name] = experiment.build(other, data=first.data, devices=devices)
  for one in found.values():
    if ":" in one.config["algorithm"]:  # one's own: what it returns is seen before any work
      for visit in plan.first_visits(one):
        plan.trace(one, visit)
  return found


def peer(
  config: ConfigDict,
  mail: Mail,
  *,
  data: dataset.Data | None = None,
  devices: list[jax.Device] | None = None,
  begun: bool = False,
) -> Experiment:
  """The experiment of a peer: `mail.own` of the config's clients, without any baselines.

  Args:
    config, data, devices, begun: as in `experiments`.
    mail: which clients train here, and how they meet the others.

  Raises:
    ConfigError: for whatever in the config cannot work, or a method whose clients cannot.
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
  """Trains one experiment after the other, in WORKDIR and WORKDIR/NAME; see `loop.run`.

  The first of them is profiled.
  """
  from kdjax.training import loop

  for name, one in experiments.items():
    run_folder.check_config(workdir / name, one.config)
  for name, one in experiments.items():
    steps = 0 if name else profile
    code = loop.run(one, workdir / name, command=command, stop=stop, profile=steps)
    if code != DONE:
      return code
  return DONE
