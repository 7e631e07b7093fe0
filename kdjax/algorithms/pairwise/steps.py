"""The steps of pairwise transfer: sources are fetched, and their maps move a target (method.py)."""

import functools
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from kdjax.algorithms.pairwise import transfer
from kdjax.algorithms.pairwise.variants import Objective
from kdjax.core import gradients, losses, peers
from kdjax.core.clients import has_data, share
from kdjax.core.env import Env
from kdjax.core.passes import train_mode
from kdjax.types import ClientState, Examples, Now, PyTree, Step


class Local(NamedTuple):
  """What the clients of one cohort keep beside their weights; a layer has n inputs."""

  sources: peers.Sources  # S a client
  maps: PyTree  # {layer: f32[K_g, S, 2n, n]}; as_coded: f32[K_g, (S + 1) n + 1, n]
  opt_state: PyTree  # of the maps; as_coded: ()


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
