"""A step of every client, on one device's share: losses, gradients, updates, fresh states.

Losses are shares that add up over the mesh's `data` axis (core/env.py); gradients are mapped over
clients first and summed over `data` once for all of them.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jaxtyping import Bool, Float

from kdjax.core import gradients, health, mapping
from kdjax.core.arrays import Array
from kdjax.core.env import Env
from kdjax.core.passes import train_mode
from kdjax.types import ClientState, ConfigError, Examples, Objective, PyTree


def share(
  value: Float[Array, " B"], mask: Float[Array, " B"], total: Float[Array, ""]
) -> Float[Array, ""]:
  """This device's share of a mean: `sum(v * mask) / total`; value, mask f32[B] -> f32[].

  With `total` f32[], the unmasked examples of all devices that split the batch (`Examples.total`),
  their shares add up to the mean over them; 0 if there are none. It is summed over devices before
  the local map: inside it every client would wait for a sum of its own.
  """
  return jnp.sum(value * mask) / jnp.maximum(total, 1.0)


def local_mean(values: Float[Array, " B"], half: Examples) -> Float[Array, ""]:
  """This device's share of the mean of values f32[B] over one client's half of a batch; f32[]."""
  return share(values, half.mask, half.total)


def has_data(half: Examples) -> Bool[Array, "..."]:
  """bool[K_g]: whether each client has any unmasked example on any shard of the batch."""
  return half.total > 0


def update(
  env: Env,
  clients: tuple[ClientState, ...],
  objective: Objective,
  data: tuple[PyTree, ...],
  lr: float | Float[Array, ""],
  active: tuple[Bool[Array, "..."] | None, ...] | None = None,
) -> tuple[tuple[ClientState, ...], tuple[dict[str, jax.Array], ...]]:
  """One optimiser step of every client.

  Args:
    env: Env.
    clients: tuple over cohorts of ClientState.
    objective: (apply, params, d) -> (share of the loss, (aux, model_state)) for one client, where
      `apply(params, half) -> (ModelOut, model_state)` runs the client's model in training mode
      from its current statistics, or from those given as a third argument; aux is a dict of
      shares, and d this client's part of `data`. An entry 'refused' counts what its teachers
      said that was not taken in.
    data: tuple over cohorts of pytrees, leaves [K_g, ...]; None for a cohort that stays as it is.
    lr: f32[].
    active: tuple over cohorts of bool[K_g]; a client that is not active keeps its parameters, its
      statistics and its optimiser state. None: all are.

  Returns:
    (clients, aux): the new states, and a tuple over cohorts of dicts of f32[K_g]. 'live' in them
    is true of clients that took the step; the losses of all others, which rested or had numbers
    that were not finite (core/health.py), mean nothing. 'failed' is true of the latter.
  """
  active = active or (None,) * len(clients)
  pairs = [
    (client, {}) if d is None else _update_cohort(env, cohort, client, objective, d, lr, takes_part)
    for cohort, client, d, takes_part in zip(env.cohorts, clients, data, active, strict=True)
  ]
  return tuple(client for client, _ in pairs), tuple(aux for _, aux in pairs)


class Gradients(NamedTuple):
  """What one client learns from its batch; gradients and aux are shares until they are summed."""

  params: PyTree
  aux: dict[str, jax.Array]
  statistics: PyTree  # its model_state after the pass


def _update_cohort(env, cohort, clients, objective, data, lr, active):
  """`update` of one cohort; `active` bool[K_g] or None."""

  def differentiate(client, d):
    def apply(params, half, statistics=client.model_state):
      return train_mode(cohort.model, statistics, params, half)

    loss = lambda params: objective(apply, params, d)
    grads, (aux, statistics) = gradients.of(loss, client.params)
    return Gradients(grads, aux, statistics)

  def step(client, grads, active):
    return apply_step(env, cohort.tx, lr, client, grads, active)

  if env.mesh.shape["data"] == 1:  # one after the other: no client's gradients outlive its turn
    both = lambda client, d, active: step(client, differentiate(client, d), active)
    return mapping.evolve(env.local_map, both, clients, data, active)
  grads = env.map_clients(differentiate, clients, data)
  params, aux = jax.lax.psum((grads.params, grads.aux), "data")
  return env.map_clients(step, clients, Gradients(params, aux, grads.statistics), active)


def apply_step(
  env: Env,
  tx: optax.GradientTransformation,
  lr: Float[Array, ""] | float,
  old: ClientState,
  grads: Gradients,
  active: Bool[Array, ""] | None,
) -> tuple[ClientState, dict[str, jax.Array]]:
  """One client's step; one whose numbers are not finite (core/health.py) moves nothing.

  Args:
    env: Env.
    tx: its optimiser.
    lr: f32[].
    old: its state.
    grads: Gradients, summed over the `data` axis.
    active: bool[], whether it takes part in this step; None: it does.

  Returns:
    (ClientState, aux with whether it took the step as 'live', or could not as 'failed').
  """
  finite = health.may_step(grads.aux, grads.params, grads.statistics)
  going = health.is_active(env, old.health)
  taken = finite & going
  failed = ~finite & going
  params, opt_state = gradients.apply_update(tx, lr, grads.params, old.params, old.opt_state, taken)
  counted = health.counted(old.health, failed, grads.aux.get("refused", 0))
  new = ClientState(params, select(taken, grads.statistics, old.model_state), opt_state, counted)
  if active is None:
    return new, grads.aux | {"live": taken, "failed": failed}
  status = {"live": taken & active, "failed": failed & active}
  return select(active, new, old), grads.aux | status


def select(chosen: Bool[Array, ""], new: PyTree, old: PyTree) -> PyTree:
  """The new tree of one client if it is chosen, else the old one."""
  return jax.tree.map(lambda n, o: jnp.where(chosen, n, o), new, old)


def init_client(
  model: nn.Module,
  tx: optax.GradientTransformation,
  key: jax.Array,
  image: tuple[int, ...],
  dtype: str,
  given: dict[str, Any] | None = None,
) -> ClientState:
  """One client's ClientState: fresh, but for the weights that are given."""
  given = given or {}
  variables = dict(model.init(key, jnp.zeros((1, *image), dtype), train=False))
  params = _with(variables.pop("params"), given.get("params", {}))
  model_state = _with(variables, given.get("model_state", {}))
  return ClientState(params, model_state, tx.init(params), health.fresh())


def _with(tree, given, path=()):
  """A nested dict with the leaves that `given` has replaced by them."""
  out = dict(tree)
  for key, value in given.items():
    here = (*path, key)
    if isinstance(value, dict) and isinstance(tree.get(key), dict):
      out[key] = _with(tree[key], value, here)
    elif key not in tree or jnp.shape(tree[key]) != jnp.shape(value):
      shape, own = jnp.shape(value), jnp.shape(tree.get(key))
      hint = f"the weights there are {shape}, this model's {own}: name a part that both have"
      raise ConfigError("start.part", "/".join(here), hint)
    else:
      out[key] = jnp.asarray(value, tree[key].dtype)
  return out
