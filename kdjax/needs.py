"""Checks that a run fits into this machine's memory."""

import math
import os

import jax

from kdjax import experiment as experiments
from kdjax import layout, plan
from kdjax.core import agreement
from kdjax.core.costs import nbytes
from kdjax.experiment import Experiment
from kdjax.hardware import memory as compiled
from kdjax.hardware.target import GIB
from kdjax.types import ConfigError, TrainState

THRIFT = {"map": "clients take turns", "remat": "activations are recomputed"}


def check(experiment: Experiment, state: TrainState) -> None:
  """Refuses an experiment whose state or batches this machine's memory cannot hold.

  Args:
    experiment: Experiment.
    state: the shapes of its state.

  Raises:
    ConfigError: names the key whose number needs most, and how much that is.
  """
  limit = memory()
  for (key, value), what, size in (*_states(experiment, state), *_batches(experiment)):
    if size > limit:
      hint = f"{what} would need {size / GIB:,.1f} GiB, this machine has {limit / GIB:,.1f} GiB"
      raise ConfigError(key, value, hint)


def fitted(experiment: Experiment, limit: int | None = None) -> Experiment:
  """The experiment, changed to need less memory if its programs do not fit into a device's.

  It takes the first change of `layout.thriftier` that fits, or the last one. The results are the
  same.

  Args:
    experiment: Experiment.
    limit: bytes per device; None: the devices' own limit. A CPU's devices have none, and nothing is
      changed.
  """
  limit = device_memory() if limit is None else limit
  changes = layout.thriftier(experiment.config["mesh"], experiment.env)
  if not limit or not changes:
    return experiment
  need = _need(experiment)
  if not agreement.anywhere(need > limit):  # all processes run one program
    return experiment
  amount = f"{need / GIB:.1f} GiB" if math.isfinite(need) else "more than there is"
  text = f"{amount} per device would be needed, there are {limit / GIB:.1f} GiB"
  devices = list(experiment.env.mesh.devices.flat)
  for change in changes:
    config = experiment.config | {"mesh": experiment.config["mesh"] | change}
    smaller = experiments.build(config, data=experiment.data, devices=devices)
    if change is changes[-1] or not agreement.anywhere(_need(smaller) > limit):
      break
  how = " and ".join(f"{THRIFT[key]} (mesh.{key}={value!r})" for key, value in change.items())
  agreement.say(f"{text}: {how}")
  return smaller


def _need(experiment):
  """Bytes per device of the program that needs most and of the training sets."""
  visits = plan.first_visits(experiment)
  programs = max(compiled.compile(plan.lower(experiment, visit)).need for visit in visits)
  return plan.resident(experiment) + programs


def device_memory() -> int:
  """Bytes of one device's memory that a program may use; 0 if the device does not report them."""
  device = jax.local_devices()[0]
  stats = None if device.platform == "cpu" else device.memory_stats()
  return stats["bytes_limit"] if stats else 0


def memory() -> int:
  """Bytes of this process's devices together; on a CPU, the machine's memory."""
  reported = [d.memory_stats() for d in jax.local_devices() if d.platform != "cpu"]
  if reported and all(reported):
    return sum(stats["bytes_limit"] for stats in reported)
  return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _states(experiment, state):
  """((key, value), purpose, bytes) of the arrays that stay on the devices from step to step."""
  env = experiment.env
  algo = experiment.config["algo"]
  count = _largest({"clients": env.K, "replicas": env.R})
  own = _largest({f"algo.{key}": value for key, value in algo.items()} | dict([count]))
  yield count, "the clients' weights and optimisers", nbytes(state.clients)
  yield own, "the method's own state", nbytes((state.local, state.server))


def _batches(experiment):
  """((key, value), purpose, bytes) of the arrays made for a step, a dispatch or a test."""
  config = experiment.config
  env = experiment.env
  example = 4 * math.prod(env.task.image)
  private, public = (env.clients * config[key] for key in ("batch", "public_batch"))
  largest = _largest({key: config[key] for key in ("batch", "public_batch")})
  yield largest, "the examples of a step", example * (private + public)
  ahead = config["input"]["ahead"]
  if any(examples.array is None for examples in experiment.sets.values()):
    yield ("input.ahead", ahead), "what is read ahead", ahead * example * (private + public)
  steps = experiment.steps_per_dispatch
  size = steps * 24 * (private + public)
  yield ("mesh.steps_per_dispatch", steps), "the indices of a dispatch", size
  for name, arguments in config["evals"].items():
    batch = arguments.get("batch", 0)
    if isinstance(batch, int):
      logits = 4 * env.clients * len(env.heads) * env.task.classes
      yield (f"evals.{name}.batch", batch), "a batch of a test", batch * (example + logits)


def _largest(numbers):
  """(key, value) of the largest whole number."""
  whole = {k: v for k, v in numbers.items() if type(v) is int}
  return max(whole.items(), key=lambda item: item[1])
