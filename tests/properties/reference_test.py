"""Fused, jitted training against the NumPy reference: all parameters of all clients, in float64.

What is random is read from kdjax (first weights, data order, drawn teachers and slots: they have
tests of their own); everything that is computed from it is computed again.
"""

import dataclasses

import chex
import ensembles
import jax
import numpy as np
import numpy_reference as reference
import pytest

from kdjax.algorithms.mhd import pool as pools
from kdjax.configs import common
from kdjax.core.random import client_key
from kdjax.training import schedule

LR, CLIP, WEIGHT_DECAY, BETA = 0.1, 1.0, 1e-4, 0.9  # of `ensembles.config`
NU_EMB, NU_AUX, D, P = 0.5, 3.0, 2, 3
DEEP = ("mlp", dict(hidden=(6, 5), activation="tanh"))
# Client 0 has more teachers than it asks, 1 as many, 2 fewer, 3 none.
TEACHERS = ([1, 2, 3], [0, 2], [1], [])
EDGES = tuple((i, j) for i, js in enumerate(TEACHERS) for j in js)
GRAPH = dict(common.base().graph, kind="edges", edges=EDGES)


@pytest.fixture(autouse=True)
def float64():
  with jax.enable_x64(True):
    yield


def build(method, clients=((4, *DEEP),), **changes):
  """An experiment on black and white images: those have no rounding, in whatever precision."""
  source, shards = ensembles.data()
  pixels = np.where(source.train.array > 127, 255, 0).astype(np.uint8)
  train = dataclasses.replace(source.train, array=pixels)
  c = ensembles.config(method, clients, **changes)
  return ensembles.build(c, data_=(source._replace(train=train), shards))


class Run:
  """The reference's side of an experiment: clients that are trained one after the other."""

  def __init__(self, e):
    self.e = e
    self.params = first_weights(e)
    self.momentum = [{name: 0 * x for name, x in p.items()} for p in self.params]
    self.images = np.where(e.data.source.train.array > 127, 1.0, -1.0)  # (x / 255 - 1/2) / (1/2)
    self.labels = e.data.source.train.labels
    self.norms = []  # of every gradient so far

  def calls(self):
    """(phase, position, {half: [places of this batch's examples] over clients}) of every call."""
    totals = schedule.totals(self.e.visits)
    for visit in self.e.visits:
      for i in range(visit.calls):
        pos = schedule.position(visit, i, totals[visit.number])
        yield visit.phase, pos, self.examples(visit.phase, pos) if visit.phase.feed else {}

  def examples(self, phase, pos):
    halves = self.e.streams.batch(phase.feed, phase.name, pos)
    return {
      half: [index[mask > 0] for index, mask in zip(x.index, x.mask, strict=True)]
      for half, x in halves.items()
    }

  def private_loss(self, index):
    return lambda params: reference.cross_entropy(params, self.images[index], self.labels[index])

  def step(self, i, loss, pos):
    """One step of client i down its own loss; the cosine's rate is handed over in float32."""
    lr = float(np.float32(LR * 0.5 * (1 + np.cos(np.pi * pos.phase_call / pos.phase_calls))))
    grads = reference.gradient(loss, self.params[i])
    self.norms.append(reference.norm(grads))
    self.params[i], self.momentum[i] = reference.sgd(
      self.params[i], self.momentum[i], grads, lr, clip=CLIP, weight_decay=WEIGHT_DECAY, beta=BETA
    )

  def matches(self, state):
    """Compares with kdjax's weights; both sides of the clipping must have been seen."""
    assert min(self.norms) < CLIP < max(self.norms)
    chex.assert_trees_all_close(weights(self.e, state), self.params, rtol=1e-9, atol=1e-13)


def weights(e, state):
  return [reference.flat(params) for params, _ in ensembles.by_client(e, state)]


def first_weights(e):
  return weights(e, e.init())


def mhd(e, heard):
  """MHD in NumPy; `heard(run, i, count)` are the weights of client i's teachers at a step."""
  run = Run(e)
  run.pool = [[run.params[js[s % len(js)]] for s in range(P) if js] for js in TEACHERS]
  for phase, pos, batch in run.calls():
    if phase.name == "refresh":
      peer, slot, _ = phase.args(pos)
      for i, j in enumerate(peer):
        assert (j in TEACHERS[i]) if TEACHERS[i] else (j == -1)
        if j >= 0:
          run.pool[i][slot[i]] = run.params[j]
      continue
    told = []  # everyone's teachers speak before anyone takes a step
    for i in range(4):
      public = run.images[batch["public"][i]]
      told.append([reference.forward(params, public) for params in heard(run, i, pos.phase_call)])
    for i in range(4):
      run.step(i, mhd_loss(run, told[i], batch["private"][i], batch["public"][i]), pos)
  return run


def mhd_loss(run, told, private, public):
  """Eq. 1 of one client; without teachers there is no distillation."""

  def loss(params):
    total = run.private_loss(private)(params)
    if told:
      total += reference.distillation(params, run.images[public], told, NU_EMB, NU_AUX)
    return total

  return loss


def test_mhd_with_pools():
  e = build("mhd pool", steps=9, graph=GRAPH, algo_teachers=D)

  def heard(run, i, count):
    filled = np.full(P, 0 if TEACHERS[i] else -1)
    slot, valid = pools.draw(client_key(0, "teachers", count, i), filled, D)
    return [run.pool[i][s] for s, v in zip(slot, valid, strict=True) if v]

  mhd(e, heard).matches(ensembles.train(e)[0])


def test_mhd_with_fresh_predictions():
  e = build("mhd fresh", steps=9, graph=GRAPH, algo_teachers=D)

  def heard(run, i, count):
    noise = np.asarray(jax.random.gumbel(client_key(0, "teachers", count, i), (4,)))
    return [run.params[j] for j in sorted(TEACHERS[i], key=lambda j: -noise[j])[:D]]

  mhd(e, heard).matches(ensembles.train(e)[0])


def test_fedmd():
  """Two architectures; unequal clients, of which the shorter ones rest at the end of an epoch."""
  e = build("fedmd", ((2, *DEEP), (2, *ensembles.MLP)))
  run = Run(e)
  for phase, pos, batch in run.calls():
    if phase.name == "consensus":
      start = list(run.params)  # everyone speaks before anyone digests
    for i in range(4) if phase.name == "digest" else ():
      images = run.images[batch["public"][i]]
      consensus = np.mean([reference.forward(p, images)[1][:, 0] for p in start], axis=0)
      run.step(i, lambda p: reference.absolute_error(p, images, consensus), pos)  # noqa: B023
    for i in range(4) if phase.feed.private else ():
      if len(batch["private"][i]):
        run.step(i, run.private_loss(batch["private"][i]), pos)
  run.matches(ensembles.train(e)[0])


def test_fedavg():
  """Everyone starts from client 0 and continues from the average weighted by n_i / n."""
  e = build("fedavg", steps=8)
  run = Run(e)
  share = np.array([20, 24, 30, 26]) / 100
  for phase, pos, batch in run.calls():
    if phase.name == "average":
      mean = {
        k: sum(s * p[k] for s, p in zip(share, run.params, strict=True)) for k in run.params[0]
      }
      run.params = [mean] * 4
    else:
      for i in range(4):
        run.step(i, run.private_loss(batch["private"][i]), pos)
  run.matches(ensembles.train(e)[0])
