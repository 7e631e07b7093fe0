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
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kdjax import optim
from kdjax.algorithms.pairwise import metadata, transfer
from kdjax.algorithms.separate import train_phase
from kdjax.core import gradients, losses, peers
from kdjax.core.clients import has_data, share
from kdjax.core.passes import train_mode
from kdjax.types import Algorithm, ClientState, ConfigError, Feed, Phase, at_least


class Local(NamedTuple):
  """What the clients of one cohort keep beside their weights; a layer has n inputs."""

  sources: Any  # peers.Sources, S a client
  maps: Any  # {layer: f32[K_g, S, 2n, n]}; as_coded: f32[K_g, (S + 1) n + 1, n]
  opt_state: Any  # of the maps; as_coded: ()


def make(
  env,
  *,
  layers,
  alpha,
  beta,
  variant,
  noise,
  write,
  transfer_optim,
  local_epochs,
  transfer_epochs,
  sources,
  new_class_below,
):
  """Pairwise transfer.

  Args:
    env: Env.
    layers: the layers of interest, paths such as 'Dense_2' or 'heads/hidden'; alike in all models.
    alpha, beta: weights of cross entropy and divergence in 'eq5', together 1.
    variant: 'eq5', 'algorithm1' or 'as_coded'.
    noise: standard deviation of the normal noise on a map's first [0; I].
    write: 'epoch' or 'batch', how often W* takes W_b's place; of no account for 'as_coded'.
    transfer_optim: the maps' optimiser, as `config.optim`.
    local_epochs, transfer_epochs: passes over the private data in each turn.
    sources: so many of a client's teachers, the best by advertised metadata; 0: all.
    new_class_below: for `sources`, a class is new to who has seen fewer examples of it.

  Raises:
    ConfigError: for values that cannot be, or layers that are not there or not alike.
  """
  check(alpha, beta, variant, noise, write, local_epochs, transfer_epochs, sources)
  shapes = transfer.layer_shapes(env, layers)
  chosen = functools.partial(metadata.choose, env, best=sources, new_below=new_class_below)
  S = chosen(0).shape[1]
  tx, rate = maps_optimiser(transfer_optim)
  learned = transfer.learned(env, shapes, S, noise=noise, tx=tx)
  weigh, pipeline, weights = {
    "eq5": (functools.partial(eq5, alpha, beta), learned, False),
    "algorithm1": (algorithm1, learned, True),
    "as_coded": (functools.partial(eq5, 1, 1), transfer.fixed(env, shapes, S), True),
  }[variant]

  def init(clients):
    nobody = jax.tree.map(lambda x: x[:, :S], peers.none(env))
    keys = [env.keys(g, "maps", 0) for g in range(len(clients))]
    local = [Local(s, *jax.vmap(pipeline.fresh)(k)) for s, k in zip(nobody, keys, strict=True)]
    return clients, tuple(local), ()

  def sent(pos):
    return peers.received(env, chosen(pos.step - pos.round))

  trains = variant != "as_coded"
  facts = lambda rounds: transfer.transfers(env, shapes, chosen(0), learned=trains)
  feed = Feed(private=env.batch, kind="epoch", epochs=local_epochs)
  cycle = (
    train_phase(env, name="local", feed=feed, steps=None),
    Phase(
      "fetch",
      fetch_step(env, pipeline),
      None,
      1,
      args=lambda pos: chosen(pos.step - pos.round),  # batches before it: a fetch takes none
      sent=sent,
    ),
    Phase(
      "transfer",
      transfer_step(env, pipeline, weigh, weights=weights, every_batch=write == "batch"),
      feed._replace(epochs=transfer_epochs),
      None,
      lr=env.rate,
      args=lambda pos: (pos.i == pos.n - 1, np.float32(rate(pos.count, pos.total))),
    ),
  )
  return Algorithm(init, cycle, env.predict, facts=facts, uses_graph=True)


def check(alpha, beta, variant, noise, write, local_epochs, transfer_epochs, sources):
  """Raises ConfigError for values that cannot be; arguments as `make`'s."""
  at_least(0, alpha=alpha, beta=beta, noise=noise, sources=sources)
  at_least(1, local_epochs=local_epochs, transfer_epochs=transfer_epochs)
  if abs(alpha + beta - 1) > 1e-6:
    raise ConfigError("algo.beta", beta, f"alpha and beta add up to 1 (Eq. 5): {1 - alpha:g}")
  choices = {
    "variant": (variant, ("eq5", "algorithm1", "as_coded")),
    "write": (write, ("epoch", "batch")),
  }
  for key, (value, known) in choices.items():
    if value not in known:
      raise ConfigError(f"algo.{key}", value, "must be one of " + ", ".join(known))


def maps_optimiser(arguments):
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


def eq5(alpha, beta, both, trained, target):
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


def algorithm1(both, trained, target):
  """Cross entropy for the weights, divergence for the maps; arguments as `eq5`'s."""
  params, maps = trained
  own, _, statistics = both(params, jax.lax.stop_gradient(maps))
  _, other, _ = both(jax.lax.stop_gradient(params), maps)  # the same pass, compiled once
  return own + other, own, other, statistics


def fetch_step(env, pipeline):
  """`Phase.step` of a fetch: fresh copies of the sources, and maps that start again."""

  def begin(client, mine, key):
    if pipeline.tx is None:
      params = pipeline.rewrite(client.params, mine.maps, mine.sources)
      return client._replace(params=params), mine
    return client, Local(mine.sources, *pipeline.fresh(key))

  def step(state, batch, now):
    found = peers.fetch(env, state.clients, now.args)
    begun = []
    for g, (client, mine) in enumerate(zip(state.clients, state.local, strict=True)):
      keys = env.keys(g, "maps", now.step)
      begun.append(env.map_clients(begin, client, mine._replace(sources=found[g]), keys))
    clients, local = zip(*begun, strict=True)
    return state._replace(clients=clients, local=local), ({},) * len(local)

  return step


def transfer_step(env, pipeline, weigh, *, weights, every_batch):
  """`Phase.step` of a transfer.

  Args:
    env: Env.
    pipeline: transfer.Pipeline.
    weigh: `eq5` with its weights, or `algorithm1`.
    weights: whether a target trains its own weights too.
    every_batch: whether W* takes W_b's place after every batch.
  """
  learns = pipeline.tx is not None

  def differentiate(model, client, mine, half):
    flat, peer = mine.sources
    said = peers.logits(env, flat, peer, half.image)

    def both(params, maps):
      params = pipeline.rewrite(params, maps, mine.sources) if learns else params
      out, statistics = train_mode(model, client.model_state, params, half)
      mean = functools.partial(share, mask=half.mask, total=half.total)
      own = mean(losses.cross_entropy(out.logits[:, 0], half.label))
      other = mean(peers.divergence(said, peer, out.logits[:, 0]))
      return own, other, statistics

    def loss(trained):
      total, own, other, statistics = weigh(both, trained, (peer >= 0).any())
      return total, ({"loss": total, "cross_entropy": own, "divergence": other}, statistics)

    return gradients.of(loss, (client.params, mine.maps))

  def advance(tx, now, client, mine, grads, statistics, active, key):
    target, (last, rate) = (mine.sources.peer >= 0).any(), now.args
    params, opt_state = gradients.apply_update(
      tx, now.lr, grads[0], client.params, client.opt_state
    )
    trains = active if weights else active & ~target
    client = ClientState(
      _where(trains, params, client.params),
      _where(active, statistics, client.model_state),
      _where(trains, opt_state, client.opt_state),
    )
    if not learns:
      return client, mine
    maps, opt_state = gradients.apply_update(pipeline.tx, rate, grads[1], mine.maps, mine.opt_state)
    moves = active & target
    mine = mine._replace(
      maps=_where(moves, maps, mine.maps), opt_state=_where(moves, opt_state, mine.opt_state)
    )
    write = lambda params: pipeline.rewrite(params, mine.maps, mine.sources)
    if every_batch:
      params = _where(moves, write(client.params), client.params)
      mine = mine._replace(maps=_where(moves, pipeline.fresh(key)[0], mine.maps))
    else:  # it changes nothing for clients without sources
      params = jax.lax.cond(last, write, lambda params: params, client.params)
    return client._replace(params=params), mine

  def step(state, batch, now):
    new, auxes = [], []
    for g, cohort in enumerate(env.cohorts):
      client, mine, half = state.clients[g], state.local[g], batch.private[g]
      grads, (aux, statistics) = env.map_clients(
        functools.partial(differentiate, cohort.model), client, mine, half
      )
      grads, aux = jax.lax.psum((grads, aux), "data")
      keys, live = env.keys(g, "maps", now.step), has_data(half)
      take = functools.partial(advance, cohort.tx, now)
      new.append(env.map_clients(take, client, mine, grads, statistics, live, keys))
      auxes.append(aux | {"live": live})
    clients, local = zip(*new, strict=True)
    return state._replace(clients=clients, local=local), tuple(auxes)

  return step


def _where(on, new, old):
  return jax.tree.map(lambda n, o: jnp.where(on, n, o), new, old)
