"""The steps of pairwise transfer: sources are fetched, and their maps move a target (method.py)."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import optax

from kdjax.algorithms.pairwise import transfer
from kdjax.algorithms.pairwise.variants import TransferObjective, TransferPass
from kdjax.core import copies, gradients, health, losses
from kdjax.core.clients import Gradients, apply_step, has_data, local_mean, select
from kdjax.core.env import Env
from kdjax.core.passes import train_mode
from kdjax.types import ClientState, Examples, Now, PyTree, Step


class Local(NamedTuple):
  """The state of one cohort's clients beside their weights; a layer has n inputs."""

  sources: copies.Sources  # S per client
  maps: PyTree  # {layer: f32[K_g, 2n, n]}; as_coded: f32[K_g, (S + 1) n + 1, n]
  opt_state: PyTree  # of the maps; as_coded: ()


class Due(NamedTuple):
  """The time at which W* takes the place of W_b."""

  every_batch: bool  # after every batch; otherwise after the visit
  fresh: bool  # whether the maps start again afterwards


def fetch_step(
  env: Env, pipeline: transfer.Pipeline, *, fresh: bool, disguise: Callable | None = None
) -> Step:
  """`Phase.step` of a fetch: copies of the sources' current models.

  Args:
    env: Env.
    pipeline: the maps.
    fresh: whether maps and their optimiser start again.
    disguise: (env, clients, call) -> the clients that are sent in their place (controls.py).
  """

  def step(state, batch, now):
    clients = disguise(env, state.clients, now.call) if disguise else state.clients
    local = []
    for g, sources in enumerate(copies.fetch(env, clients, now.args)):
      own = state.local[g]._replace(sources=sources)
      if fresh:
        own = Local(sources, *env.map_clients(pipeline.fresh, env.keys(g, "maps", now.call)))
      local.append(own)
    return state._replace(local=tuple(local)), ({},) * len(local)

  return step


def transfer_step(env: Env, objective: TransferObjective, due: Due) -> Step:
  """`Phase.step` of a transfer, with the objective of a variant."""

  def step(state, batch, now):
    new = []
    for g, cohort in enumerate(env.cohorts):
      client, own, half = state.clients[g], state.local[g], batch.private[g]
      differentiate = functools.partial(map_gradients, env, objective, cohort.model)
      grads, maps = env.map_clients(differentiate, client, own, half)
      params, aux, maps = jax.lax.psum((grads.params, grads.aux, maps), "data")
      grads = Gradients(params, aux, grads.statistics)
      keys = env.keys(g, "maps", now.call)
      advance_one = functools.partial(advance, env, objective, due, cohort.tx, now)
      new.append(env.map_clients(advance_one, client, own, grads, maps, has_data(half), keys))
    clients, local, auxes = zip(*new, strict=True)
    return state._replace(clients=clients, local=local), auxes

  return step


def map_gradients(
  env: Env,
  objective: TransferObjective,
  model: nn.Module,
  client: ClientState,
  own: Local,
  half: Examples,
) -> tuple[Gradients, PyTree]:
  """(gradients of one client's weights, gradients of its maps); this device's shares."""
  flat, peer = own.sources
  source_logits = copies.logits(env, flat, peer, half.image)

  def run(params, maps):
    new = params if maps is None else objective.pipeline.rewrite(params, maps, own.sources)
    out, statistics = train_mode(model, client.model_state, new, half)
    logits = out.logits[:, 0]
    transfer_pass = TransferPass(
      model, client.model_state, half, params, new, logits, own.sources, source_logits
    )
    ce = local_mean(losses.cross_entropy(logits, half.label), half)
    return ce, local_mean(objective.gap(transfer_pass), half), statistics

  def loss(trained):
    total, ce, gap, statistics = objective.weigh(run, trained, (peer >= 0).any())
    aux = {"loss": total, "cross_entropy": ce, "divergence": gap}
    return total, (aux | {"refused": copies.refused(source_logits, half.mask)}, statistics)

  (params, maps), (aux, statistics) = gradients.of(loss, (client.params, own.maps))
  return Gradients(params, aux, statistics), maps


def advance(
  env: Env,
  objective: TransferObjective,
  due: Due,
  tx: optax.GradientTransformation,
  now: Now,
  client: ClientState,
  own: Local,
  grads: Gradients,
  map_grads: PyTree,
  live: jax.Array,
  key: jax.Array,
) -> tuple[ClientState, Local, dict[str, jax.Array]]:
  """One client's step: a target updates its maps, and W* takes the place of W_b when it is due.

  Args:
    env: Env.
    objective: of the variant.
    due: the time at which W* replaces W_b.
    tx: the client's optimiser.
    now: its `args` are (whether this is the visit's last batch, the maps' learning rate).
    client, own: the client's state.
    grads, map_grads: the results of `map_gradients`, summed over the `data` axis.
    live: bool[], whether the client has data in this step.
    key: for maps that start again.

  Returns:
    (ClientState, Local, aux).
  """
  target = (own.sources.peer >= 0).any()
  new, aux = apply_step(env, tx, now.lr, client, grads, live)
  if not objective.weights:  # a target's weights stay as they are
    weights = select(target, (client.params, client.opt_state), (new.params, new.opt_state))
    new = new._replace(params=weights[0], opt_state=weights[1])
  moves = aux["live"] & target
  moved = move_maps(objective.pipeline, due, now.args, new, own, map_grads, moves, key)
  client, own = select(health.is_active(env, new.health), moved, (new, own))
  return client, own, aux


def move_maps(
  pipeline: transfer.Pipeline,
  due: Due,
  args: tuple[jax.Array, jax.Array],
  client: ClientState,
  own: Local,
  grads: PyTree,
  moves: jax.Array,
  key: jax.Array,
) -> tuple[ClientState, Local]:
  """Updates one client's maps, and puts W* in place of W_b when it is due."""
  last, rate = args
  if pipeline.tx is not None:
    moved = gradients.apply_update(pipeline.tx, rate, grads, own.maps, own.opt_state, moves)
    maps, opt_state = select(moves, moved, (own.maps, own.opt_state))
    own = own._replace(maps=maps, opt_state=opt_state)
  write = lambda params: pipeline.rewrite(params, own.maps, own.sources)
  if not due.every_batch:  # without sources, `write` changes nothing
    params = jax.lax.cond(last, write, lambda params: params, client.params)
    return client._replace(params=params), own
  params = select(moves, write(client.params), client.params)
  if due.fresh:
    own = own._replace(maps=select(moves, pipeline.fresh(key)[0], own.maps))
  return client._replace(params=params), own
