"""From a config to everything that does not change while training."""

import dataclasses
import functools
import hashlib
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from kdjax import layout, optim
from kdjax.config import validate
from kdjax.core import clients, graph
from kdjax.core.env import STATE, Env
from kdjax.core.passes import eval_mode
from kdjax.data import augment, dataset
from kdjax.data.streams import Streams
from kdjax.models.build import build_model as build_model
from kdjax.plugins import accept, call, find_module
from kdjax.training import schedule, start
from kdjax.training.run_folder import FREE_ON_RESUME
from kdjax.types import Algorithm, Cohort, TrainState


@dataclasses.dataclass(frozen=True, eq=False)
class Experiment:
  """Everything static about a run."""

  config: dict
  env: Env
  algorithm: Algorithm
  streams: Streams
  data: dataset.Data
  augment: object  # (key, u8[h, w, c]) -> image
  preprocess: object  # image -> f32
  view: object  # u8[h, w, c] -> f32: what a model sees at test time
  visits: tuple[schedule.Visit, ...]
  steps_per_dispatch: int
  evaluators: dict = dataclasses.field(default_factory=dict)  # see `_evaluators`

  @property
  def sets(self):
    """{half: ImageSet}."""
    return {"private": self.data.source.train, "public": self.data.public}

  @property
  def hash(self):
    """What a checkpoint belongs to: the config, less what may change, and who holds what."""
    kept = {k: v for k, v in self.config.items() if k not in FREE_ON_RESUME}
    digest = hashlib.sha256(json.dumps(kept, sort_keys=True).encode())
    for index in (*self.data.shards.private, *self.data.shards.public):
      digest.update(np.asarray(index, np.int64).tobytes())
    return digest.hexdigest()

  @property
  def batches(self):
    """Training batches of the whole run."""
    return self.visits[-1].after(self.visits[-1].n)

  def state_sharding(self, state):
    """A NamedSharding for every leaf of a TrainState."""
    place = lambda spec: (
      lambda tree: jax.tree.map(lambda _: NamedSharding(self.env.mesh, spec), tree)
    )
    return TrainState(*(place(spec)(tree) for spec, tree in zip(STATE, state, strict=True)))

  def initialiser(self):
    """A function without arguments that makes the TrainState of step 0."""
    begin = self.config["start"]
    given = start.given_weights(**{k: begin[k] for k in ("workdir", "client", "part")})
    return functools.partial(self._fresh(), given)

  def _fresh(self):
    return start.initialiser(self.env, self.algorithm, common=self.config["start"]["common"])

  def template(self):
    """Shapes, dtypes and shardings of the TrainState."""
    shapes = jax.eval_shape(self._fresh(), {})  # given weights have the shapes of fresh ones
    return jax.tree.map(
      lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
      shapes,
      self.state_sharding(shapes),
    )


def build(config, *, data=None, devices=None, identity=None):
  """The experiment that a config describes.

  Args:
    config: the resolved config, a ConfigDict or nested dict.
    data: dataset.Data; None: what the config names.
    devices: jax devices to use; None: all, but of a CPU's host devices as many as pay.
    identity: the K names under which clients draw; None: their numbers.

  Raises:
    ConfigError: for whatever in the config cannot work.
  """
  config = plain(config)
  validate(config)
  seeds = replica_seeds(config)
  data = dataset.open_data(config, seeds) if data is None else data
  source, public, shards = data
  augmentation, preprocess, view, image = _images(config, source.train.shape)
  module = find_module("kdjax.algorithms", config["algorithm"], key="algorithm")
  accept(module.make, key="algo", arguments=config["algo"])
  heads = getattr(module, "heads", lambda **_: ("main",))(**config["algo"])
  stack = getattr(module, "stack", lambda clients, **_: clients)(
    config["clients"], **config["algo"]
  )
  K, holders = (sum(n for n, *_ in clients) for clients in (stack, config["clients"]))
  names = tuple(range(K)) if identity is None else tuple(identity)
  tx, lr = optim.make(**config["optim"])
  cohorts = _cohorts(config, stack, source.classes, heads, tx, len(seeds))
  dtype = "float64" if config["model"].get("dtype") == "float64" else "float32"
  templates = tuple(_template(c, image, dtype) for c in cohorts)
  forward = functools.partial(_forward, image=image, batch=config["batch"], dtype=dtype)
  works, widths = zip(*map(forward, cohorts, templates), strict=True)
  sizes = [len(c.ids) for c in cohorts]
  convolve = any(x.ndim == 4 for t in templates for x in jax.tree.leaves(t.params))
  setup = dict(work=max(works), convolves=convolve)
  form = layout.form(config["mesh"], **setup, sizes=sizes, devices=devices)
  offered = all(map(_offers, cohorts))
  cohorts = tuple(_lowered(c, form.conv) for c in cohorts)
  env = Env(
    cohorts=cohorts,
    K=K,
    holders=holders,
    seeds=seeds,
    identity=names,
    mesh=layout.mesh(config, sizes, layout.devices(sizes, form) if devices is None else devices),
    local_map=form.local_map,
    graph=call(graph.make, holders, key="graph", arguments=config["graph"]),
    private_sizes=np.array([len(x) for x in shards.private]),
    label_counts=np.asarray(shards.label_counts),
    public_sizes=np.array([len(x) for x in shards.public]),
    image=image,
    classes=source.classes,
    heads=heads,
    batch=config["batch"],
    public_batch=config["public_batch"],
    public_labels=config["public_labels"],
    steps=config["steps"],
    lr=lr,
    dtype=dtype,
    templates=templates,
    widths=widths,
  )
  public_labels = public.labels if config["public_labels"] else np.full_like(public.labels, -1)
  members = tuple(tuple(k for k in c.ids if k < K) for c in cohorts)
  streams = Streams(shards, members, _i32(source.train.labels), _i32(public_labels), seeds, names)
  algorithm = module.make(env, **config["algo"])
  experiment = Experiment(
    config=config,
    env=env,
    algorithm=algorithm,
    streams=streams,
    data=data,
    augment=augmentation,
    preprocess=preprocess,
    view=view,
    visits=schedule.visits(
      algorithm, streams.epoch_steps, steps=config["steps"], rounds=config["rounds"]
    ),
    steps_per_dispatch=config["mesh"]["steps_per_dispatch"]
    or layout.steps_per_dispatch(form, **setup, clients=sum(sizes), offered=offered),
  )
  return dataclasses.replace(experiment, evaluators=_evaluators(experiment))


def plain(config):
  """A config as nested dicts, lists and scalars, as it stands in `config.json`."""
  config = config.to_dict() if hasattr(config, "to_dict") else config
  if isinstance(config, dict):
    return {key: plain(value) for key, value in config.items()}
  if isinstance(config, list | tuple):
    return [plain(value) for value in config]
  return str(config) if config in (math.inf, -math.inf) else config  # JSON knows no infinity


def replica_seeds(config):
  """The seeds of the R replicas."""
  return tuple(config["seed"] + r for r in range(config["replicas"]))


def _i32(labels):
  return labels.astype(np.int32)


def _images(config, shape):
  """(augmentation, preprocess, view at test time, the image shape that models see)."""
  normalise = {k: tuple(v) for k, v in config["normalise"].items()}
  preprocess = functools.partial(augment.preprocess, **normalise)
  augmentation = augment.make(**config["augment"])
  image = jax.ShapeDtypeStruct(shape, jnp.uint8)
  seen = jax.eval_shape(lambda x: augmentation(jax.random.key(0), x), image).shape
  view = preprocess
  if seen != shape:
    centre = augment.centre(seen[0])
    view = lambda x: preprocess(centre(x))
  return augmentation, preprocess, view, tuple(seen)


def _cohorts(config, stack, classes, heads, tx, R):
  K = sum(n for n, *_ in stack)
  cohorts, first = [], 0
  for n, name, arguments in stack:
    arguments = config["model"] | arguments
    model = build_model(name, classes=classes, heads=len(heads), **arguments)
    ids = tuple(r * K + i for r in range(R) for i in range(first, first + n))
    cohorts.append(Cohort(name, model, tx, ids))
    first += n
  return tuple(cohorts)


def _template(cohort, image, dtype):
  one = lambda: clients.client(cohort.model, cohort.tx, jax.random.key(0), image, dtype, {})
  return jax.eval_shape(one)


def _forward(cohort, template, *, image, batch, dtype):
  """(multiply-adds of one client's forward pass on a batch, F)."""
  images = jax.ShapeDtypeStruct((batch, *image), dtype)
  trace = jax.make_jaxpr(functools.partial(eval_mode, cohort.model), return_shape=True)
  jaxpr, out = trace(template, images)
  return layout.work(jaxpr.jaxpr), out.embedding.shape[-1]


def _offers(cohort):
  """Whether a cohort's network has the field `conv`; a user's own may not."""
  return "conv" in {field.name for field in dataclasses.fields(cohort.model)}


def _lowered(cohort, conv):
  """The cohort, its convolutions written so, where its network offers the choice."""
  model = cohort.model.clone(conv=conv) if _offers(cohort) else cohort.model
  return dataclasses.replace(cohort, model=model)


def _evaluators(experiment):
  """{name: (batches between two evaluations, state -> a list over replicas of dicts)}.

  0 batches: an evaluation after every round.
  """
  out = {}
  for name, arguments in experiment.config["evals"].items():
    module = find_module("kdjax.evals", name, key="evals")
    rest = {k: v for k, v in arguments.items() if k != "every"}
    evaluate = call(module.make, experiment, key=f"evals.{name}", arguments=rest)
    out[name] = (arguments["every"], evaluate)
  return out
