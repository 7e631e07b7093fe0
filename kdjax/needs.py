"""What a run needs of the machine that it is to run on; more than there is, is refused."""

import math
import os

import jax

from kdjax import experiment as experiments
from kdjax import layout, plan
from kdjax.core import agreement
from kdjax.core.costs import nbytes
from kdjax.experiment import Experiment
from kdjax.hardware import memory as compiled
from kdjax.types import ConfigError, TrainState

GIB = 2**30
THRIFT = {"map": "clients take turns", "remat": "activations are computed again"}


def check(experiment: Experiment, state: TrainState) -> None:
  """Refuses an experiment whose state or batches this machine's memory cannot hold.

  Args:
    experiment: Experiment.
    state: its shapes at step 0.

  Raises:
    ConfigError: for the key whose number asks for most; says how much that is.
  """
  have = memory()
  for (key, value), what, size in (*_states(experiment, state), *_batches(experiment)):
    if size > have:
      hint = f"{what} would need {size / GIB:,.1f} GiB, this machine has {have / GIB:,.1f} GiB"
      raise ConfigError(key, value, hint)


def fitted(experiment: Experiment, limit: int | None = None) -> Experiment:
  """The experiment; where its programs do not fit into a device's memory, one that needs less.

  Of `layout.thriftier` the first that fits, or the last. The results are the same.

  Args:
    experiment: Experiment.
    limit: bytes a device; None: as the devices say. A CPU's say nothing, and are not asked.
  """
  limit = device_memory() if limit is None else limit
  changes = layout.thriftier(experiment.config["mesh"], experiment.env)
  if not limit or not changes:
    return experiment
  need = _need(experiment)
  if not agreement.anywhere(need > limit):  # all processes run one program
    return experiment
  known = f"{need / GIB:.1f} GiB" if math.isfinite(need) else "more than there is"
  text = f"{known} a device would be needed, there are {limit / GIB:.1f} GiB"
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
  """Bytes a device, of the program that needs most, and of the training sets."""
  visits = plan.first_visits(experiment)
  programs = max(compiled.compile(plan.lower(experiment, visit)).need for visit in visits)
  return plan.resident(experiment) + programs


def device_memory() -> int:
  """Bytes that a program may have of one device's memory; 0 where the device does not say."""
  device = jax.local_devices()[0]
  stats = None if device.platform == "cpu" else device.memory_stats()
  return stats["bytes_limit"] if stats else 0


def memory() -> int:
  """Bytes of this process's devices together; of a CPU's, the machine's memory."""
  known = [d.memory_stats() for d in jax.local_devices() if d.platform != "cpu"]
  if known and all(known):
    return sum(stats["bytes_limit"] for stats in known)
  return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _states(experiment, state):
  """((key, value), what it is for, bytes) of what lives on the devices from step to step."""
  env, algo = experiment.env, experiment.config["algo"]
  many = _largest({"clients": env.K, "replicas": env.R})
  own = _largest({f"algo.{key}": value for key, value in algo.items()} | dict([many]))
  yield many, "the clients' weights and optimisers", nbytes(state.clients)
  yield own, "the method's own state", nbytes((state.local, state.server))


def _batches(experiment):
  """((key, value), what it is for, bytes) of what is made for a step, a dispatch, a test."""
  config, env = experiment.config, experiment.env
  example = 4 * math.prod(env.task.image)
  private, public = (env.clients * config[key] for key in ("batch", "public_batch"))
  largest = _largest({key: config[key] for key in ("batch", "public_batch")})
  yield largest, "the examples of a step", example * (private + public)
  ahead = config["input"]["ahead"]
  if any(examples.array is None for examples in experiment.sets.values()):
    yield ("input.ahead", ahead), "what is read ahead", ahead * example * (private + public)
  steps, calls = "mesh.steps_per_dispatch", experiment.steps_per_dispatch
  yield (steps, calls), "the indices of a dispatch", calls * 24 * (private + public)
  for name, arguments in config["evals"].items():
    size = arguments.get("batch", 0)
    if isinstance(size, int):
      said = 4 * env.clients * len(env.heads) * env.task.classes
      yield (f"evals.{name}.batch", size), "a batch of a test", size * (example + said)


def _largest(numbers):
  """(key, value) of the largest whole number."""
  whole = {k: v for k, v in numbers.items() if type(v) is int}
  return max(whole.items(), key=lambda item: item[1])
