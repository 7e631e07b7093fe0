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

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from kdjax import optim
from kdjax.algorithms.pairwise import metadata, transfer
from kdjax.algorithms.separate import train_phase
from kdjax.core import gradients, losses, peers
from kdjax.core.clients import has_data, share
from kdjax.core.env import Env
from kdjax.core.passes import train_mode
from kdjax.types import (
  Algorithm,
  ClientState,
  ConfigError,
  Examples,
  Feed,
  Method,
  Now,
  Phase,
  PyTree,
  Step,
  at_least,
)


class Local(NamedTuple):
  """What the clients of one cohort keep beside their weights; a layer has n inputs."""

  sources: peers.Sources  # S a client
  maps: PyTree  # {layer: f32[K_g, S, 2n, n]}; as_coded: f32[K_g, (S + 1) n + 1, n]
  opt_state: PyTree  # of the maps; as_coded: ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hyper:
  """Hyper-parameters of pairwise transfer; the paper leaves open what has a value."""

  layers: tuple[str, ...]  # of interest, paths such as 'heads/hidden'; alike in all models
  alpha: float  # weight of the cross entropy in eq5
  beta: float  # weight of the divergence; alpha and beta add up to 1
  variant: str = "eq5"  # or algorithm1, as_coded
  noise: float = 0.001  # standard deviation of the normal noise on a map's first [0; I]
  write: str = "epoch"  # or batch: how often W* takes W_b's place; of no account for as_coded
  transfer_optim: dict  # the maps' optimiser, as `config.optim`
  local_epochs: int = 1  # passes over the private data before a fetch
  transfer_epochs: int = 1  # and after it
  sources: int = 0  # so many of a client's teachers, the best by what they advertise; 0: all
  new_class_below: int = 20  # for `sources`: a class is new to who has seen fewer examples of it


def make(env: Env, hyper: Hyper) -> Algorithm:
  """Pairwise transfer; see the file's docstring.

  Raises:
    ConfigError: for values that cannot be, or layers that are not there or not alike.
  """
  check(hyper)
  shapes = transfer.layer_shapes(env, hyper.layers)
  chosen = functools.partial(
    metadata.choose, env, best=hyper.sources, new_below=hyper.new_class_below
  )
  S = chosen(0).shape[1]
  tx, rate = maps_optimiser(hyper.transfer_optim)
  objective = make_objective(env, hyper, shapes, S, tx)

  def init(clients):
    nobody = jax.tree.map(lambda x: x[:, :S], peers.none(env))
    keys = [env.keys(g, "maps", 0) for g in range(len(clients))]
    fresh = objective.pipeline.fresh
    local = [Local(s, *jax.vmap(fresh)(k)) for s, k in zip(nobody, keys, strict=True)]
    return clients, tuple(local), ()

  trains = hyper.variant != "as_coded"
  facts = lambda rounds: transfer.transfers(env, shapes, chosen(0), learned=trains)
  phases = cycle(env, hyper, objective, chosen, rate)
  return Algorithm(init, phases, env.predict, facts=facts, uses_graph=True)


METHOD = Method(Hyper, make)


class Objective(NamedTuple):
  """What a target minimises, and over what."""

  weigh: Callable  # `eq5` with its weights, or `algorithm1`
  pipeline: transfer.Pipeline  # how maps rewrite the layers
  weights: bool  # whether a target trains its own weights too


def make_objective(
  env: Env, hyper: Hyper, shapes: dict, S: int, tx: optax.GradientTransformation
) -> Objective:
  """The objective of a variant; `shapes` of the layers, S sources, the maps' optax `tx`."""
  if hyper.variant == "as_coded":
    return Objective(functools.partial(eq5, 1, 1), transfer.fixed(env, shapes, S), True)
  learned = transfer.learned(env, shapes, S, noise=hyper.noise, tx=tx)
  if hyper.variant == "algorithm1":
    return Objective(algorithm1, learned, True)
  return Objective(functools.partial(eq5, hyper.alpha, hyper.beta), learned, False)


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
      sent=lambda pos: peers.received(env, chosen(before(pos))),
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


def check(hyper: Hyper) -> None:
  """Refuses values that cannot be.

  Raises:
    ConfigError: with the key, its value and what would be right.
  """
  at_least(0, alpha=hyper.alpha, beta=hyper.beta, noise=hyper.noise, sources=hyper.sources)
  at_least(1, local_epochs=hyper.local_epochs, transfer_epochs=hyper.transfer_epochs)
  if abs(hyper.alpha + hyper.beta - 1) > 1e-6:
    hint = f"alpha and beta add up to 1 (Eq. 5): {1 - hyper.alpha:g}"
    raise ConfigError("algo.beta", hyper.beta, hint)
  choices = {"variant": ("eq5", "algorithm1", "as_coded"), "write": ("epoch", "batch")}
  for key, known in choices.items():
    if getattr(hyper, key) not in known:
      raise ConfigError(f"algo.{key}", getattr(hyper, key), "must be one of " + ", ".join(known))


def maps_optimiser(arguments: dict) -> tuple[optax.GradientTransformation, Callable]:
  """(optax.GradientTransformation, (count, total) -> learning rate), see `optim.make`."""
  try:
    tx, rate = optim.make(**arguments)
  except ConfigError as error:
    key = error.key.removeprefix("optim")
    raise ConfigError(f"algo.transfer_optim{key}", error.value, error.hint) from None
  if arguments["weight_decay"]:
    hint = "must be 0: a map that decays forgets its target"
    raise ConfigError("algo.transfer_optim.weight_decay", arguments["weight_decay"], hint)
  return tx, rate


def eq5(alpha: float, beta: float, both: Callable, trained: tuple, target: jax.Array) -> tuple:
  """Eq. 5 for a target, the cross entropy for another client.

  Args:
    alpha, beta: weights.
    both: (params, maps) -> (cross entropy, divergence, model_state).
    trained: (params, maps).
    target: bool[], whether the client has sources.

  Returns:
    (the loss, cross entropy, divergence, model_state).
  """
  own, other, statistics = both(*trained)
  return jnp.where(target, (alpha * own + beta * other) / 2, own), own, other, statistics


def algorithm1(both: Callable, trained: tuple, target: jax.Array) -> tuple:
  """Cross entropy for the weights, divergence for the maps; arguments as `eq5`'s."""
  params, maps = trained
  own, _, statistics = both(params, jax.lax.stop_gradient(maps))
  _, other, _ = both(jax.lax.stop_gradient(params), maps)  # the same pass, compiled once
  return own + other, own, other, statistics


def fetch_step(env: Env, pipeline: transfer.Pipeline) -> Step:
  """`Phase.step` of a fetch: fresh copies of the sources, and maps that start again."""

  def begin(client, own, key):
    if pipeline.tx is None:
      params = pipeline.rewrite(client.params, own.maps, own.sources)
      return client._replace(params=params), own
    return client, Local(own.sources, *pipeline.fresh(key))

  def step(state, batch, now):
    found = peers.fetch(env, state.clients, now.args)
    begun = []
    for g, (client, own) in enumerate(zip(state.clients, state.local, strict=True)):
      keys = env.keys(g, "maps", now.step)
      begun.append(env.map_clients(begin, client, own._replace(sources=found[g]), keys))
    clients, local = zip(*begun, strict=True)
    return state._replace(clients=clients, local=local), ({},) * len(local)

  return step


def transfer_step(env: Env, objective: Objective, *, every_batch: bool) -> Step:
  """`Phase.step` of a transfer; `every_batch`: whether W* takes W_b's place after every batch."""

  def step(state, batch, now):
    new, auxes = [], []
    for g, cohort in enumerate(env.cohorts):
      client, own, half = state.clients[g], state.local[g], batch.private[g]
      differentiate = functools.partial(map_gradients, env, objective, cohort.model)
      grads, (aux, statistics) = env.map_clients(differentiate, client, own, half)
      grads, aux = jax.lax.psum((grads, aux), "data")
      keys, live = env.keys(g, "maps", now.step), has_data(half)
      take = functools.partial(advance, objective, cohort.tx, now, every_batch)
      new.append(env.map_clients(take, client, own, grads, statistics, live, keys))
      auxes.append(aux | {"live": live})
    clients, local = zip(*new, strict=True)
    return state._replace(clients=clients, local=local), tuple(auxes)

  return step


def map_gradients(
  env: Env, objective: Objective, model: nn.Module, client: ClientState, own: Local, half: Examples
):
  """One client's gradients of its weights and its maps: ((params, maps), (aux, statistics))."""
  flat, peer = own.sources
  said = peers.logits(env, flat, peer, half.image)

  def both(params, maps):
    if objective.pipeline.tx is not None:
      params = objective.pipeline.rewrite(params, maps, own.sources)
    out, statistics = train_mode(model, client.model_state, params, half)
    mean = functools.partial(share, mask=half.mask, total=half.total)
    ce = mean(losses.cross_entropy(out.logits[:, 0], half.label))
    kl = mean(peers.divergence(said, peer, out.logits[:, 0]))
    return ce, kl, statistics

  def loss(trained):
    total, ce, kl, statistics = objective.weigh(both, trained, (peer >= 0).any())
    return total, ({"loss": total, "cross_entropy": ce, "divergence": kl}, statistics)

  return gradients.of(loss, (client.params, own.maps))


def advance(
  objective: Objective,
  tx: optax.GradientTransformation,
  now: Now,
  every_batch: bool,
  client: ClientState,
  own: Local,
  grads: tuple[PyTree, PyTree],
  statistics: PyTree,
  active: jax.Array,
  key: jax.Array,
) -> tuple[ClientState, Local]:
  """One client's step: a target moves its maps, and W* takes the place of W_b when it is due.

  Args:
    objective: of the variant.
    tx: the client's optimiser.
    now: its `args` are (whether this is the visit's last batch, the maps' learning rate).
    every_batch: whether W* is written after every batch.
    client, own: its state.
    grads: of (params, maps).
    statistics: after the pass.
    active: bool[], whether it has data in this step.
    key: for maps that start again.
  """
  target = (own.sources.peer >= 0).any()
  params, opt_state = gradients.apply_update(tx, now.lr, grads[0], client.params, client.opt_state)
  trains = active if objective.weights else active & ~target
  client = ClientState(
    _where(trains, params, client.params),
    _where(active, statistics, client.model_state),
    _where(trains, opt_state, client.opt_state),
  )
  if objective.pipeline.tx is None:
    return client, own
  return move_maps(objective.pipeline, now.args, every_batch, client, own, grads[1], active, key)


def move_maps(
  pipeline: transfer.Pipeline,
  args: tuple[jax.Array, jax.Array],
  every_batch: bool,
  client: ClientState,
  own: Local,
  grads: PyTree,
  active: jax.Array,
  key: jax.Array,
) -> tuple[ClientState, Local]:
  """One client's maps after a step, and its weights with W* in place of W_b when it is due."""
  last, rate = args
  maps, opt_state = gradients.apply_update(pipeline.tx, rate, grads, own.maps, own.opt_state)
  moves = active & (own.sources.peer >= 0).any()
  own = own._replace(
    maps=_where(moves, maps, own.maps), opt_state=_where(moves, opt_state, own.opt_state)
  )
  write = lambda params: pipeline.rewrite(params, own.maps, own.sources)
  if every_batch:
    params = _where(moves, write(client.params), client.params)
    own = own._replace(maps=_where(moves, pipeline.fresh(key)[0], own.maps))
  else:  # it changes nothing for clients without sources
    params = jax.lax.cond(last, write, lambda params: params, client.params)
  return client._replace(params=params), own


def _where(on, new, old):
  return jax.tree.map(lambda n, o: jnp.where(on, n, o), new, old)
