"""Pairwise transfer: maps carry sources' knowledge into a target's layers while all clients train.

Goldstein, Kachuee, Shiell, Sarrafzadeh: Real-Time Decentralized Knowledge Transfer at the Edge,
2020, https://arxiv.org/abs/2011.05961. A client with sources, its teachers in the graph, is a
target; it may be a source as well. In turns,

  local     every client trains on its private data
  fetch     every target receives its sources' current weights
  transfer  with its own weights W_b frozen, a target trains a map M per layer of interest on its
            private data, running with W* = mean_a [W_a, W_b] M (Eq. 2; transfer.py). Then W* takes
            the place of W_b. Clients without sources continue to train meanwhile.

Four variants define a target's loss. P_a is the prediction of source a and Q the target's own:

  eq5         (alpha CE + beta mean_a KL(P_a || Q)) / 2 over the maps                      (Eq. 5)
  eq1         mean_a |W* X - W_a X| + |W* X - W_b X| over the map, X the layer's inputs    (Eq. 1)
  algorithm1  the KL alone over the maps, and the cross entropy over its weights, in one step
  as_coded    what the authors' code does at commit 65badee (orpgol/decentralized_models, May 2021;
              the paper's Tables 9 and 10), where no gradient reaches anything in a transfer: one
              random map for all sources rewrites the layer with every batch, and stays as it is

Maps and their optimiser persist, co-evolving with the sources as the paper says; maps='fresh'
starts them again at every fetch. Algorithm 1 as printed is variant='algorithm1', write='batch',
local_epochs=0: every batch is a local step, a step of the maps and a rewrite.

Readings: several sources enter as their mean, in W* as in the loss, so that their number does not
change how far a map moves a layer (the paper has one map per layer and a loss divided by |A|; Eq. 2
has one source). Biases and BatchNorm stay the target's, whose running statistics move during a
transfer. The source is the first argument of Eq. 4's KL (`divergence`). A transfer works with the
weights fetched before it, on batches of its own. With write='batch', fresh maps start again after
every batch, but their optimiser only at the next fetch. Departures of as_coded: clients without
sources continue to train, and nothing is pre-trained without the config's `start`.
"""

import functools
from collections.abc import Callable

import jax
import numpy as np

from kdjax.algorithms.pairwise import layers as interest
from kdjax.algorithms.pairwise import metadata, transfer
from kdjax.algorithms.pairwise.hyper import Hyper, maps_optimiser
from kdjax.algorithms.pairwise.steps import Due, Local, fetch_step, transfer_step
from kdjax.algorithms.pairwise.variants import TransferObjective, make_objective
from kdjax.algorithms.separate import train_phase
from kdjax.core import copies
from kdjax.core.env import Env
from kdjax.types import (
  Algorithm,
  Feed,
  Method,
  Phase,
)


def make(env: Env, hyper: Hyper, disguise: Callable | None = None) -> Algorithm:
  """Pairwise transfer; see the file's docstring, and `fetch_step` for `disguise`.

  Raises:
    ConfigError: for invalid values, or layers that a model lacks or that differ between models.
  """
  shapes = interest.shapes(env, hyper.layers)
  chosen = functools.partial(
    metadata.choose, env, best=hyper.sources, new_below=hyper.new_class_below
  )
  S = chosen(0).shape[1]
  tx, rate = maps_optimiser(hyper.transfer_optim)
  objective = make_objective(env, hyper, S, tx)

  def init(clients):
    no_sources = jax.tree.map(lambda x: x[:, :S], copies.none(env))
    keys = [env.keys(g, "maps", 0) for g in range(len(clients))]
    fresh = objective.pipeline.fresh
    local = [Local(s, *jax.vmap(fresh)(k)) for s, k in zip(no_sources, keys, strict=True)]
    return clients, tuple(local), ()

  trains = objective.pipeline.tx is not None
  facts = lambda rounds: transfer.transfers(env, shapes, chosen(0), learned=trains)
  phases = cycle(env, hyper, objective, chosen, rate, disguise)
  return Algorithm(init, phases, env.predict, facts=facts, uses_graph=True)


METHOD = Method(Hyper, make)


def cycle(
  env: Env,
  hyper: Hyper,
  objective: TransferObjective,
  chosen: Callable,
  rate: Callable,
  disguise: Callable | None,
) -> tuple[Phase, ...]:
  """The phases of a round: local (unless local_epochs is 0), fetch, transfer.

  Args:
    env: Env.
    hyper: Hyper.
    objective: of the variant.
    chosen: training batches so far -> every client's sources, i32[R*K, S].
    rate: (count, total) -> the maps' learning rate.
    disguise: see `fetch_step`.
  """
  batch = env.training.batch

  def length(n):
    """(feed, calls per visit) of n passes; of n batches with `by_step`."""
    if hyper.by_step:
      return Feed(private=batch), n
    return Feed(private=batch, kind="epoch", epochs=n), None

  fresh = hyper.maps == "fresh" and hyper.variant != "as_coded"
  every_batch = hyper.write == "batch" or hyper.variant == "as_coded"
  local_feed, local_calls = length(hyper.local_epochs)
  transfer_feed, transfer_calls = length(hyper.transfer_epochs)
  local = train_phase(env, name="local", feed=local_feed, steps=local_calls)
  return (
    *((local,) if hyper.local_epochs else ()),
    Phase(
      "fetch",
      fetch_step(env, objective.pipeline, fresh=fresh, disguise=disguise),
      None,
      1,
      args=lambda pos: chosen(pos.batches),
      bytes_sent=lambda pos: copies.received(env, chosen(pos.batches)),
    ),
    Phase(
      "transfer",
      transfer_step(env, objective, Due(every_batch, fresh)),
      transfer_feed,
      transfer_calls,
      args=lambda pos: (
        pos.visit_call == pos.visit_calls - 1,
        np.float32(rate(pos.phase_call, pos.phase_calls)),
      ),
    ),
  )
