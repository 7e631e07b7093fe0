"""From a config to everything that training does not change."""

import dataclasses
import functools
import hashlib
import inspect
import json
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding

from kdjax import layout, optim
from kdjax.checks import validate
from kdjax.config import FREE_ON_RESUME, LENGTH, plain, replica_seeds, tuples, without_counts
from kdjax.core import clients, graph, hostile
from kdjax.core.env import STATE, Env, Hostile, Population, Task, Training
from kdjax.core.passes import eval_mode
from kdjax.data import dataset, facts
from kdjax.data.example_set import ExampleSet
from kdjax.data.streams import Streams
from kdjax.data.unreadable import Unreadable
from kdjax.data.views import views
from kdjax.models.build import (
  build_model,
  check_reads,
  check_returns,
  check_takes,
)
from kdjax.peers import Mail, part
from kdjax.plugins import call, find, find_method
from kdjax.training import contract, schedule, start
from kdjax.types import Algorithm, Cohort, ConfigError, Evaluator, Method, Phase, TrainState


@dataclasses.dataclass(frozen=True, eq=False)
class Experiment:
  """The static parts of a run, with caches of its programs and a record of unreadable images.

  The caches `evaluators`, `traced` and `programs` fill up as they are used, and `unreadable` counts
  during training. Nothing else changes after `build`.
  """

  config: dict[str, Any]
  env: Env
  algorithm: Algorithm
  streams: Streams
  data: dataset.Data
  augment: Callable[[jax.Array, jax.Array], jax.Array]  # see data.views.Views
  preprocess: Callable[[jax.Array], jax.Array]
  view: Callable[[jax.Array], jax.Array]
  visits: tuple[schedule.Visit, ...]
  steps_per_dispatch: int
  unreadable: Unreadable  # the damaged images that the run has met

  @functools.cached_property
  def evaluators(self) -> dict[str, tuple[int, Evaluator]]:
    """{name: (batches between two evaluations, its Evaluator)}; 0: after every round."""
    return {
      name: (arguments["every"], _evaluator(self, name, arguments))
      for name, arguments in self.config["evals"].items()
    }

  @functools.cached_property
  def traced(self) -> dict[tuple[Phase, str], Any]:
    """A cache, {(phase, backend): its jitted program}, see `program.jitted`."""
    return {}

  @functools.cached_property
  def programs(self) -> dict[int | str, Any]:
    """A cache, {phase's number, or name in `Stepper.outputs`: its compiled program}."""
    return {}

  @property
  def sets(self) -> dict[str, ExampleSet]:
    """{half: ExampleSet}."""
    return {"private": self.data.source.train, "public": self.data.public}

  @property
  def hash(self) -> str:
    """The digest that a checkpoint belongs to: of the config's fixed keys, and of the shards."""
    return self._hash(without_counts(self.config))

  def hashes(self, config: dict[str, Any]) -> tuple[str, str]:
    """The hashes of a config of this run: today's, and that of earlier versions.

    Earlier versions included the counts of `source_info`.
    """
    return self._hash(without_counts(config)), self._hash(config)

  def _hash(self, config):
    kept = {k: v for k, v in config.items() if k not in (*FREE_ON_RESUME, *LENGTH)}
    digest = hashlib.sha256(json.dumps(kept, sort_keys=True).encode())
    for index in (*self.data.shards.private, *self.data.shards.public):
      digest.update(np.asarray(index, np.int64).tobytes())
    return digest.hexdigest()

  @property
  def batches(self) -> int:
    """Training batches of the whole run."""
    return self.visits[-1].after(self.visits[-1].calls)

  def state_sharding(self, state: TrainState) -> TrainState:
    """A NamedSharding for every leaf of a TrainState."""
    place = lambda spec: (
      lambda tree: jax.tree.map(lambda _: NamedSharding(self.env.mesh, spec), tree)
    )
    return TrainState(*(place(spec)(tree) for spec, tree in zip(STATE, state, strict=True)))

  def init(self) -> TrainState:
    """Makes the TrainState of step 0, on the devices.

    Raises:
      ConfigError: see `check_start`.
    """
    return self._initialiser(self._start_weights())

  def shapes(self) -> TrainState:
    """Returns the shapes, dtypes and shardings of the TrainState."""
    shapes = jax.eval_shape(self._initialiser, {})  # given weights have the shapes of fresh ones
    return jax.tree.map(
      lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
      shapes,
      self.state_sharding(shapes),
    )

  def check_start(self) -> None:
    """Checks that step 0 can begin from the weights that `config.start` names.

    Raises:
      ConfigError: for weights that do not exist or do not fit.
    """
    jax.eval_shape(self._initialiser, self._start_weights())

  @functools.cached_property
  def _initialiser(self):
    """The jitted function of `start.initialiser`, traced once for the shapes and the state."""
    method = self.config["algorithm"]
    common = self.config["start"]["common"]
    return start.initialiser(self.env, self.algorithm, method=method, common=common)

  def _start_weights(self):
    """The weights that `config.start` names; {} where it names none."""
    begin = self.config["start"]
    return start.given_weights(**{key: begin[key] for key in ("workdir", "client", "part")})


def build(
  config: Any,
  *,
  data: dataset.Data | None = None,
  devices: list[jax.Device] | None = None,
  identity: tuple[int, ...] | None = None,
  mail: Mail | None = None,
) -> Experiment:
  """Builds the experiment that a config describes.

  Args:
    config: the resolved config, a ConfigDict or nested dict.
    data: the data; None: those that the config names.
    devices: jax devices to use; None: all, but only as many of a CPU's host devices as are useful.
    identity: the K names under which clients draw; None: their numbers.
    mail: in a peer: its own clients, and its exchange with the others; None: not a peer.

  Raises:
    ConfigError: for anything in the config that cannot work.
  """
  config = plain(config)
  validate(config)
  data = dataset.open_data(config, replica_seeds(config)) if data is None else data
  config = facts.resolved(config, data)
  method, hyper = chosen_method(config)
  config["algo"] = plain(dataclasses.asdict(hyper))
  image_views = views(config, data.source.train.shape)
  env, steps_per_dispatch = _ensemble(
    config, method, hyper, data, image_views.shape, devices=devices, identity=identity, mail=mail
  )
  if mail is None:
    algorithm = method.make(env, hyper)
  else:
    algorithm = part.algorithm(config["algorithm"], method, env, hyper, mail)
  contract.check(config["algorithm"], algorithm)
  streams = _streams(env, data)
  lengths = dict(steps=config["steps"], rounds=config["rounds"])
  experiment = Experiment(
    config=config,
    env=env,
    algorithm=algorithm,
    streams=streams,
    data=data,
    augment=image_views.augment,
    preprocess=image_views.preprocess,
    view=image_views.view,
    visits=schedule.visits(algorithm, streams.epoch_steps, **lengths),
    steps_per_dispatch=steps_per_dispatch,
    unreadable=Unreadable(
      {"private": data.source.train, "public": data.public, "test": data.source.test},
      config["faults"]["images"],
    ),
  )
  contract.check_plan(config["algorithm"], experiment.visits)
  list(experiment.evaluators)  # made now, so that their errors are raised before any work
  return experiment


def chosen_method(config: dict[str, Any]) -> tuple[Method, Any]:
  """A config's method and its hyper-parameters.

  Raises:
    ConfigError: for a method that does not exist, or hyper-parameters that it does not have.
  """
  method = find_method(config["algorithm"])
  known = inspect.signature(method.hyper).parameters
  if len(config["algo"]) > 1 and not set(config["algo"]) & set(known):
    takes = ", ".join(known) or "no hyper-parameters"
    hint = f"another method's: {config['algorithm']} takes {takes}. Give its algo with it"
    hint += ", or run a config's baseline, as in --config=mhd_digits:fedavg"
    raise ConfigError("algo", ", ".join(config["algo"]), hint)
  return method, call(method.hyper, key="algo", arguments=tuples(config["algo"]))


def _ensemble(config, method, hyper, data, image, *, devices, identity, mail):
  """(Env, steps of a dispatch): the clients, their task and their layout on the devices."""
  tx, lr = optim.make(**config["optim"])
  cohorts = _cohorts(config, method, hyper, data.source.classes, tx, image)
  own = cohorts if mail is None else part.cohorts(config, cohorts, mail.own)
  placed = layout.lay_out(config, own, image, _dtype(config), devices)
  env = Env(
    cohorts=placed.cohorts,
    ensemble=tuple(layout.lowered(c, placed.form.conv, config["mesh"]) for c in cohorts),
    population=_population(config, cohorts, identity),
    graph=call(graph.make, _holders(config), key="graph", arguments=config["graph"]),
    task=_task(config, data, image),
    training=Training(
      config["batch"], config["public_batch"], config["steps"], lr, config["faults"]["client"]
    ),
    heads=method.heads(hyper),
    dtype=_dtype(config),
    mesh=placed.mesh,
    local_map=placed.form.local_map,
    scan=config["mesh"]["blocks"] == "scan",
    hostile=_hostile(config, method, cohorts, method.heads(hyper)),
  )
  return env, placed.steps_per_dispatch


def _dtype(config):
  return "float64" if config["model"].get("dtype") == "float64" else "float32"


def _holders(config):
  return sum(n for n, *_ in config["clients"])


def _cohorts(config, method, hyper, classes, tx, image):
  """The clients of all replicas by architecture, with one client's shapes and its width F."""
  stack = method.stack(config["clients"], hyper)
  if method.one_architecture and len(stack) > 1:
    names = [name for _, name, _ in stack]
    hint = f"{config['algorithm']} averages or copies weights, so all clients must be alike"
    raise ConfigError("clients", names, f"{hint}: one entry")
  K = sum(n for n, *_ in stack)
  heads = method.heads(hyper)
  contract.check_heads(config["algorithm"], heads)
  cohorts = []
  first = 0  # the number of an entry's first client
  for n, name, arguments in stack:
    shared = {key: value for key, value in config["model"].items() if key not in arguments}
    model = build_model(name, classes=classes, heads=len(heads), shared=shared, **arguments)
    check_reads(name, model, image)
    check_takes(name, model)
    ids = tuple(r * K + i for r in range(config["replicas"]) for i in range(first, first + n))
    template, out = _shapes(model, tx, image, _dtype(config))
    check_returns(name, out, n=2, heads=len(heads), classes=classes)
    cohorts.append(Cohort(name, model, tx, ids, template, out.embedding.shape[-1]))
    first += n
  return tuple(cohorts)


def _shapes(model, tx, image, dtype):
  """(the shapes of one client, the shapes of its output for two examples)."""
  init = lambda: clients.init_client(model, tx, jax.random.key(0), image, dtype)
  template = jax.eval_shape(init)
  examples = jax.ShapeDtypeStruct((2, *image), dtype)
  return template, jax.eval_shape(functools.partial(eval_mode, model), template, examples)


def _population(config, cohorts, identity):
  seeds = replica_seeds(config)
  K = sum(len(c.ids) for c in cohorts) // len(seeds)
  names = tuple(range(K)) if identity is None else tuple(identity)
  return Population(K, _holders(config), seeds, names)


def _hostile(config, method, cohorts, heads):
  given = config["hostile"]
  kind, who, K = given["kind"], given["clients"], _holders(config)
  if kind not in hostile.KINDS:
    raise ConfigError("hostile.kind", kind, "must be one of " + ", ".join(hostile.KINDS))
  if not all(type(k) is int and 0 <= k < K for k in who) or len(set(who)) < len(who):
    raise ConfigError("hostile.clients", who, f"different clients' numbers, 0..{K - 1}")
  if kind != "none" and (not who or len(who) == K):
    raise ConfigError("hostile.clients", who, "somebody must lie, and somebody must not")
  if kind != "none" and method.travels:
    hint = f"in {config['algorithm']} models travel, and nobody owns one: must be none"
    raise ConfigError("hostile.kind", kind, hint)
  for cohort in cohorts if kind in hostile.HEADS else ():
    if "heads" not in cohort.template.params:
      hint = f"{cohort.name} has no module `heads` whose weights could lie; flipped can"
      raise ConfigError("hostile.kind", kind, hint)
    own = cohort.template.params["heads"]
    if kind == "constant" and any("bias" not in own[name] for name in own if name in heads):
      hint = f"needs heads with a bias, and those of {cohort.name} have none; other kinds can lie"
      raise ConfigError("hostile.kind", kind, hint)
  return Hostile(kind, tuple(who), given["scale"])


def _task(config, data, image):
  shards = data.shards
  return Task(
    image=image,
    classes=data.source.classes,
    private_sizes=np.array([len(x) for x in shards.private]),
    label_counts=np.asarray(shards.label_counts),
    public_sizes=np.array([len(x) for x in shards.public]),
    public_labels=config["public_labels"],
    public_share=config["public_share"],
  )


def _streams(env, data):
  members = tuple(tuple(k for k in c.ids if k < env.K) for c in env.ensemble)
  public = data.public.labels
  public = public if env.task.public_labels else np.full_like(public, -1)
  i32 = lambda labels: labels.astype(np.int32)
  seeds, identity = env.population.seeds, env.population.identity
  private = i32(data.source.train.labels)
  return Streams(data.shards, members, private, i32(public), seeds, identity)


def _evaluator(experiment, name, arguments):
  make = find(name, package="kdjax.evals", key="evals", default="make")
  takes = inspect.signature(make).parameters  # few evaluators take `every`, their own period
  taken = {k: v for k, v in arguments.items() if k != "every" or k in takes}
  return call(make, experiment, key=f"evals.{name}", arguments=taken)
