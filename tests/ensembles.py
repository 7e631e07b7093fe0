"""Small experiments for the tests: synthetic images, tiny networks, every method in one table."""

import jax
import numpy as np

from kdjax import experiment
from kdjax.algorithms import mhd
from kdjax.configs import common
from kdjax.data import dataset
from kdjax.data.sources import ExampleSet, Source
from kdjax.training.stepper import Stepper
from kdjax.types import Shards

CLASSES, IMAGE = 4, (6, 6, 1)

MLP = ("mlp", dict(hidden=(8,), activation="tanh"))
WIDE = ("mlp", dict(hidden=(10, 8), activation="relu"))
CNN = ("cnn", dict(widths=(4, 8)))

FRESH = dict(exchange="fresh", teachers=2, one_pass="always")
GKT = dict(
  server=("mlp", dict(hidden=(6,), activation="tanh")),
  cut="embedding",
  edge_epochs=1,
  server_epochs=1,
  server_batch=16,
  order="shuffled",
  temperature=3.0,
  alpha=1.0,
  edge_distils=True,
  server_distils=True,
  plateau=dict(factor=0.5, patience=1),
  arrivals=4,
  present=1.0,
  keyed=True,
)
PAIRWISE = dict(
  layers=("heads/main",),
  alpha=0.3,
  beta=0.7,
  variant="eq5",
  noise=0.01,
  write="epoch",
  transfer_optim=common.adam(lr=0.01),
  local_epochs=1,
  transfer_epochs=1,
  sources=0,
  new_class_below=1,
)
ASYNC = dict(
  init="clone",
  ensemble=2,
  memory=2,
  memory_reduce="sum",
  temperature=2.0,
  literal=False,
  core_epochs=1,
  edge_epochs=1,
  distil_epochs=1,
  arrivals=((1, 0), (2, 1)),
  noisy=(2,),
  noise=0.5,
  flag_above=0.1,
)
METHODS = {
  "separate": ("separate", {}),
  "fedavg": ("fedavg", dict(local_steps=3, momentum="keep")),
  "fedavg reset": ("fedavg", dict(local_steps=2, momentum="reset")),
  "mhd pool": ("mhd", {}),
  "mhd fresh": ("mhd", FRESH),
  "mhd two passes": ("mhd", dict(FRESH, one_pass="never")),
  "mhd top-k": ("mhd", dict(FRESH, top_k=2)),
  "mhd published": ("mhd", dict(exchange="published", teachers=2)),
  "fedmd": (
    "fedmd",
    dict(
      public_epochs=0,
      private_epochs=1,
      private_batch=8,
      alignment=12,
      digest_epochs=1,
      digest_batch=8,
      revisit_epochs=1,
    ),
  ),
  "kd": ("kd", dict(alpha=0.5, beta=0.5, local_epochs=1, distil_epochs=1)),
  "gossip average": ("gossip", dict(variant="average", local_epochs=1, rho=0.1, mu=1.0)),
  "gossip admm": ("gossip", dict(variant="admm", local_epochs=1, rho=0.5, mu=1.0)),
  "fedgkt": ("fedgkt", GKT),
  "fedgkt async": ("fedgkt", GKT | dict(arrivals=2, present=0.8, order="client", server_epochs=2)),
  "pairwise": ("pairwise", PAIRWISE),
  "pairwise algorithm1": ("pairwise", PAIRWISE | dict(variant="algorithm1", write="batch")),
  "pairwise as_coded": ("pairwise", PAIRWISE | dict(variant="as_coded")),
  "async edge": ("async_edge", ASYNC),
}
ONE_ARCHITECTURE = (  # methods that average or copy weights
  "fedavg",
  "fedavg reset",
  "gossip average",
  "gossip admm",
  "async edge",
)
# Settings of a method that the long properties leave out; each has tests in the method's own file.
VARIANTS = (
  "mhd two passes",
  "mhd top-k",
  "fedavg reset",
  "gossip admm",
  "pairwise algorithm1",
  "pairwise as_coded",
)


def config(
  method="mhd pool", clients=((4, *MLP),), steps=8, norm="none", dtype="float64", **changes
):
  """A small config; `changes` replace top-level keys, or entries of `algo` as algo_KEY."""
  algorithm, algo = METHODS[method]
  c = common.base()
  c.clients = clients
  c.model = dict(norm=norm, dtype=dtype, project=0)
  if algorithm == "mhd":
    algo = dict(aux_heads=2, nu_emb=0.5, pool_size=3, refresh_every=2) | algo
    algo = common.algo(mhd.Hyper(**algo))
  if algorithm == "fedgkt":
    name, arguments = algo["server"]
    algo = algo | dict(server=(name, dict(norm=norm, dtype=dtype, project=0) | arguments))
  c.algorithm, c.algo = algorithm, algo
  c.steps, c.rounds = (0, 2) if algorithm in ("fedmd", "fedgkt") else (steps, 0)
  if algorithm == "kd":
    c.graph.kind = "cycle"  # one source a client compiles quickly
  c.batch = c.public_batch = 8
  c.source, c.source_info = "synthetic", dict(train=0, test=0, image=IMAGE, classes=CLASSES)
  c.optim = common.sgd(lr=0.1, clip=1.0)
  c.log_every, c.save_every = 2, 0
  c.evals.accuracy = dict(every=4, batch=16)
  for key, value in changes.items():
    target, name = (c.algo, key[5:]) if key.startswith("algo_") else (c, key)
    setattr(target, name, value)
  return c


def images(n, seed):
  """Labels i64[n] and images u8[n, h, w, c] whose brightness pattern depends on the label."""
  rng = np.random.default_rng(seed)
  label = rng.integers(CLASSES, size=n)
  pattern = np.random.default_rng(0).integers(200, size=(CLASSES, *IMAGE))
  noisy = pattern[label] + rng.integers(56, size=(n, *IMAGE))
  return ExampleSet(label, label, IMAGE, noisy.astype(np.uint8), None)


def data(K=4, sizes=(20, 24, 30, 26), public=24, R=1, seed=0):
  """(Source, Shards): the first K * R clients' lists follow each other, then the public set."""
  sizes = (tuple(sizes) * K)[:K] * R
  total = sum(sizes) + public
  source = Source("synthetic", images(total, seed), images(37, seed + 1), CLASSES)
  places = np.random.default_rng(seed).permutation(total)
  cuts = np.split(places, np.cumsum(sizes))
  counts = np.stack([np.bincount(source.train.labels[x], minlength=CLASSES) for x in cuts[:-1]])
  return source, Shards(tuple(cuts[:-1]), (cuts[-1],) * R, ((),) * (K * R), counts)


def build(c, *, data_=None, identity=None, mesh=1, local_map=None, **kwargs):
  """An Experiment on the first `mesh` devices with a local map."""
  if local_map:
    c.mesh.map = local_map
  K = sum(n for n, *_ in c.clients)
  source, shards = data_ or data(K, R=c.replicas)
  return experiment.build(
    c,
    data=dataset.Data(source, source.train, shards),
    identity=identity,
    devices=jax.devices()[:mesh],
    **kwargs,
  )


def train(e, state=None, calls=None, stepper=None):
  """(state, the Stepper) after the whole run, or after so many calls.

  A `stepper` of an earlier call is used again, with what it has compiled.
  """
  stepper = stepper or Stepper(e)
  state = stepper.init() if state is None else state
  end = e.visits[-1].start + e.visits[-1].n if calls is None else calls
  for one in stepper.dispatches(int(state.step)):
    left = end - one.visit.start - one.i
    if left <= 0:
      break
    state, _ = stepper.run(state, one._replace(count=min(one.count, left)))
  return state, stepper


def by_client(e, state):
  """Every client's parameters and statistics, in client order, on the host."""
  out = {}
  for cohort, client in zip(e.env.cohorts, state.clients, strict=True):
    host = jax.device_get((client.params, client.model_state))
    for place, k in enumerate(cohort.ids):
      out[k] = jax.tree.map(lambda x, place=place: x[place], host)
  return [out[k] for k in sorted(out)]
