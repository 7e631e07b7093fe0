"""Small experiments for the tests: synthetic images, tiny networks, every method in one table."""

import jax
import numpy as np

from configs import common
from kdjax import experiment, program, schedule
from kdjax.data import dataset
from kdjax.data.sources import ImageSet, Source
from kdjax.types import Shards

CLASSES, IMAGE = 4, (6, 6, 1)

MLP = ("mlp", dict(hidden=(8,), activation="tanh"))
WIDE = ("mlp", dict(hidden=(10, 8), activation="relu"))
CNN = ("cnn", dict(widths=(4, 8)))

FRESH = dict(exchange="fresh", teachers=2)
METHODS = {
  "separate": ("separate", {}),
  "fedavg": ("fedavg", dict(local_steps=3, momentum="keep")),
  "fedavg reset": ("fedavg", dict(local_steps=2, momentum="reset")),
  "mhd pool": ("mhd", {}),
  "mhd fresh": ("mhd", FRESH),
  "mhd top-k": ("mhd", dict(FRESH, top_k=2)),
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
}
ONE_ARCHITECTURE = ("fedavg", "fedavg reset")  # methods that average weights


def config(
  method="mhd pool", clients=((4, *MLP),), steps=8, norm="none", dtype="float64", **changes
):
  """A small config; `changes` replace top-level keys, or entries of `algo` as algo_KEY."""
  algorithm, algo = METHODS[method]
  c = common.base()
  c.clients = clients
  c.model = dict(norm=norm, dtype=dtype, project=0)
  if algorithm == "mhd":
    algo = common.mhd(aux_heads=2, nu_emb=0.5, pool_size=3, refresh_every=2) | algo
  c.algorithm, c.algo = algorithm, algo
  c.steps, c.rounds = (0, 2) if algorithm == "fedmd" else (steps, 0)
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
  return ImageSet(label, label, IMAGE, noisy.astype(np.uint8), None)


def data(K=4, sizes=(20, 24, 30, 26), public=24, R=1, seed=0):
  """(Source, Shards): the first K * R clients' lists follow each other, then the public set."""
  sizes = (tuple(sizes) * K)[:K] * R
  total = sum(sizes) + public
  source = Source("synthetic", images(total, seed), images(37, seed + 1), CLASSES)
  places = np.random.default_rng(seed).permutation(total)
  cuts = np.split(places, np.cumsum(sizes))
  counts = np.stack([np.bincount(source.train.labels[x], minlength=CLASSES) for x in cuts[:-1]])
  return source, Shards(tuple(cuts[:-1]), (cuts[-1],) * R, ((),) * (K * R), counts)


def build(c, *, data_=None, identity=None, mesh=1, how=None, **kwargs):
  """An Experiment on the first `mesh` devices with a local map."""
  if how:
    c.mesh.map = how
  K = sum(n for n, *_ in c.clients)
  source, shards = data_ or data(K, R=c.replicas)
  return experiment.build(
    c,
    data=dataset.Data(source, source.train, shards),
    identity=identity,
    devices=jax.devices()[:mesh],
    **kwargs,
  )


def train(e, state=None, calls=None):
  """(state, {phase: its program}) after the whole run, or after so many calls."""
  state = e.initialiser()() if state is None else state
  programs, tables, totals = {}, program.tables(e), schedule.totals(e.visits)
  end = e.visits[-1].start + e.visits[-1].n if calls is None else calls
  for visit in e.visits:
    i = max(0, int(state.step) - visit.start)
    last = min(visit.n, end - visit.start)
    while i < last:
      count = min(program.dispatch_size(e, visit.phase), last - i)
      step = programs.setdefault(visit.phase.name, program.build(e, visit.phase))
      inputs = program.inputs(e, visit, i, count, totals[visit.number])
      state, _ = step(state, *inputs, tables)
      i += count
  return state, programs


def by_client(e, state):
  """Every client's parameters and statistics, in client order, on the host."""
  out = {}
  for cohort, client in zip(e.env.cohorts, state.clients, strict=True):
    host = jax.device_get((client.params, client.model_state))
    for place, k in enumerate(cohort.ids):
      out[k] = jax.tree.map(lambda x, place=place: x[place], host)
  return [out[k] for k in sorted(out)]
