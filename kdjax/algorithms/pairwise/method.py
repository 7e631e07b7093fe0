"""Pairwise transfer: maps carry what sources know into a target's layers while everyone trains.

Goldstein, Kachuee, Shiell, Sarrafzadeh: Real-Time Decentralized Knowledge Transfer at the Edge,
2020, https://arxiv.org/abs/2011.05961. A client with sources, its teachers in the graph, is a
target; it may be a source as well. In turns,

  local     everyone trains on its private data
  fetch     every target receives its sources' weights, as they are now
  transfer  its own weights W_b frozen, a target trains a map M_a for every source a on its private
            data, running with W* = W_b + sum_a ([W_a, W_b] M_a - W_b) in the layers of interest
            (transfer.py); then W* takes the place of W_b and the maps start again as [0; I].
            Clients without sources go on training meanwhile.

Three variants say what a target minimises, P_a being what source a says and Q what it says itself:

  eq5         (alpha CE + beta mean_a KL(P_a || Q)) / 2 over the maps                      (Eq. 5)
  algorithm1  the KL alone over the maps, and the cross entropy over its weights, in one step
  as_coded    what the authors' code does, where no gradient reaches a map: one random map for all
              sources rewrites the layers once, at the fetch, and stays as it is; then the target
              trains all its weights on (CE + mean_a KL) / 2

Readings: biases and BatchNorm stay the target's, whose running statistics move while it transfers;
the source is the first argument of Eq. 4's KL; an epoch of transfer works with the weights fetched
before it. With write='batch', as Algorithm 1 reads, W* takes W_b's place after every batch and the
maps start again, their optimiser only with the next fetch. Departures of as_coded: the KL is one
(the code forgets a logarithm), convolutions are rewritten as dense layers are.
"""

import functools
from collections.abc import Callable

import jax
import numpy as np

from kdjax.algorithms.pairwise import metadata, transfer
from kdjax.algorithms.pairwise.hyper import Hyper, maps_optimiser
from kdjax.algorithms.pairwise.steps import Local, fetch_step, transfer_step
from kdjax.algorithms.pairwise.variants import Objective, make_objective
from kdjax.algorithms.separate import train_phase
from kdjax.core import copies
from kdjax.core.env import Env
from kdjax.types import (
  Algorithm,
  Feed,
  Method,
  Phase,
)


def make(env: Env, hyper: Hyper) -> Algorithm:
  """Pairwise transfer; see the file's docstring.

  Raises:
    ConfigError: for values that cannot be, or layers that are not there or not alike.
  """
  shapes = transfer.layer_shapes(env, hyper.layers)
  chosen = functools.partial(
    metadata.choose, env, best=hyper.sources, new_below=hyper.new_class_below
  )
  S = chosen(0).shape[1]
  tx, rate = maps_optimiser(hyper.transfer_optim)
  objective = make_objective(env, hyper, shapes, S, tx)

  def init(clients):
    nobody = jax.tree.map(lambda x: x[:, :S], copies.none(env))
    keys = [env.keys(g, "maps", 0) for g in range(len(clients))]
    fresh = objective.pipeline.fresh
    local = [Local(s, *jax.vmap(fresh)(k)) for s, k in zip(nobody, keys, strict=True)]
    return clients, tuple(local), ()

  trains = hyper.variant != "as_coded"
  facts = lambda rounds: transfer.transfers(env, shapes, chosen(0), learned=trains)
  phases = cycle(env, hyper, objective, chosen, rate)
  return Algorithm(init, phases, env.predict, facts=facts, uses_graph=True)


METHOD = Method(Hyper, make)


def cycle(
  env: Env, hyper: Hyper, objective: Objective, chosen: Callable, rate: Callable
) -> tuple[Phase, ...]:
  """A round: local, fetch, transfer.

  Args:
    env, hyper, objective: as everywhere.
    chosen: training batches so far -> i32[R*K, S], everyone's sources.
    rate: (count, total) -> the maps' learning rate.
  """
  feed = Feed(private=env.training.batch, kind="epoch", epochs=hyper.local_epochs)
  before = lambda pos: pos.step - pos.round  # batches before a fetch: a fetch takes none
  return (
    train_phase(env, name="local", feed=feed, steps=None),
    Phase(
      "fetch",
      fetch_step(env, objective.pipeline),
      None,
      1,
      args=lambda pos: chosen(before(pos)),
      sent=lambda pos: copies.received(env, chosen(before(pos))),
    ),
    Phase(
      "transfer",
      transfer_step(env, objective, every_batch=hyper.write == "batch"),
      feed._replace(epochs=hyper.transfer_epochs),
      None,
      lr=env.rate,
      args=lambda pos: (pos.i == pos.n - 1, np.float32(rate(pos.count, pos.total))),
    ),
  )
