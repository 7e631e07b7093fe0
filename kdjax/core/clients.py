"""A step of every client on one device's share: losses, gradients, updates, fresh states.

Losses are shares that add up over the mesh's `data` axis (core/env.py). Gradients are first mapped
over clients, then summed over `data` once for all clients together.
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

  `total` f32[] counts the unmasked examples on all devices that split the batch (`Examples.total`),
  so the devices' shares add up to the mean; without any example, to 0. The total is summed over
  devices before the local map. Inside the map every client would wait for a sum of its own.
  """
  return jnp.sum(value * mask) / jnp.maximum(total, 1.0)


def local_mean(values: Float[Array, " B"], half: Examples) -> Float[Array, ""]:
  """This device's share of the mean of values f32[B] over one client's half of a batch; f32[]."""
  return share(values, half.mask, half.total)


def has_data(half: Examples) -> Bool[Array, "..."]:
  """bool[K_g]: whether each client has an unmasked example on any shard of the batch."""
  return half.total > 0


def whole_batch(tree: PyTree) -> PyTree:
  """Joins the shares of a batch on all devices: leaves [K_g, share, ...] -> [K_g, B, ...]."""
  return jax.lax.all_gather(tree, "data", axis=1, tiled=True)


def select_rows(chosen: Bool[Array, "..."], new: PyTree, old: PyTree) -> PyTree:
  """The new tree where `chosen` holds, the old one elsewhere.

  Args:
    chosen: bool[...], the leading axes of every leaf.
    new, old: pytrees of one structure; leaves of `new` may broadcast to those of `old`.
  """

  def pick(n, o):
    return jnp.where(jnp.expand_dims(chosen, range(chosen.ndim, o.ndim)), n, o)

  return jax.tree.map(pick, new, old)


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
    objective: (apply, params, d) -> (share of the loss, (aux, model_state)) for one client. There
      `apply(params, half) -> (ModelOut, model_state)` runs the client's model in training mode
      from its current statistics, or from those given as a third argument. aux is a dict of
      shares, and d is this client's part of `data`. An entry 'refused' of aux counts the teacher
      predictions that were rejected.
    data: tuple over cohorts of pytrees, leaves [K_g, ...]; None for a cohort that takes no part.
    lr: f32[].
    active: tuple over cohorts of bool[K_g]; a client that is not active keeps its parameters, its
      statistics and its optimiser state. None: all are active.

  Returns:
    (clients, aux): the new states, and a tuple over cohorts of dicts of f32[K_g]. The entry 'live'
    is true for clients that took the step. 'failed' is true for active clients that skipped it
    because a number was not finite (core/health.py). Losses of clients that are not live are
    meaningless.
  """
  active = active or (None,) * len(clients)
  pairs = [
    (client, {}) if d is None else _update_cohort(env, cohort, client, objective, d, lr, takes_part)
    for cohort, client, d, takes_part in zip(env.cohorts, clients, data, active, strict=True)
  ]
  return tuple(client for client, _ in pairs), tuple(aux for _, aux in pairs)


class Gradients(NamedTuple):
  """One client's gradients on its batch; gradients and aux are shares until they are summed."""

  params: PyTree
  aux: dict[str, jax.Array]
  statistics: PyTree  # the client's model_state after the pass


def check_objective(objective: Objective, made: Any, statistics: PyTree) -> None:
  """Checks that an objective returned (share of the loss, (aux, statistics)).

  Args:
    objective: the objective, whose name the error gives.
    made: what it returned.
    statistics: the client's, for their structure.

  Raises:
    ConfigError: otherwise.
  """
  hint = _wrong_objective(made, statistics)
  if hint:
    raise ConfigError("objective", getattr(objective, "__qualname__", repr(objective)), hint)


def _wrong_objective(made, statistics):
  """What is wrong with what an objective returned, or ''."""
  pair = lambda x: isinstance(x, tuple) and len(x) == 2
  if not pair(made) or not pair(made[1]) or not isinstance(made[1][0], dict):
    return "must return (share of the loss, ({name: share}, statistics that `apply` returned))"
  if jnp.shape(made[0]) != ():
    return f"its loss must be one number, not {list(jnp.shape(made[0]))}: `share` gives the mean"
  if jax.tree.structure(made[1][1]) != jax.tree.structure(statistics):
    return "the second of its pair must be the statistics that its last `apply` returned"
  return ""


def _update_cohort(env, cohort, clients, objective, data, lr, active):
  """`update` of one cohort; `active` bool[K_g] or None."""

  def differentiate(client, d):
    def apply(params, half, statistics=client.model_state):
      return train_mode(cohort.model, statistics, params, half)

    def loss(params):
      made = objective(apply, params, d)
      check_objective(objective, made, client.model_state)
      return made

    grads, (aux, statistics) = gradients.of(loss, client.params)
    return Gradients(grads, aux, statistics)

  def step(client, grads, active):
    return apply_step(env, cohort.tx, lr, client, grads, active)

  if env.mesh.shape["data"] == 1:  # in one map: a loop then keeps one client's gradients at a time
    evolve = lambda client, d, active: step(client, differentiate(client, d), active)
    return mapping.evolve(env.local_map, evolve, clients, data, active)
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
  """One client's step; a step with numbers that are not finite (core/health.py) is skipped.

  Args:
    env: Env.
    tx: the client's optimiser.
    lr: f32[].
    old: the client's state.
    grads: Gradients, summed over the `data` axis.
    active: bool[], whether the client takes part in this step; None: it does.

  Returns:
    (ClientState, aux); aux gains 'live', whether the client took the step, and 'failed', whether it
    skipped the step because a number was not finite.
  """
  finite = health.may_step(grads.aux, grads.params, grads.statistics)
  unfrozen = health.is_active(env, old.health)
  taken = finite & unfrozen
  failed = ~finite & unfrozen
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
  """One client's initial ClientState; weights that are given replace fresh ones."""
  given = given or {}
  variables = dict(model.init(key, jnp.zeros((1, *image), dtype), train=False))
  params = _with(variables.pop("params"), given.get("params", {}))
  model_state = _with(variables, given.get("model_state", {}))
  return ClientState(params, model_state, tx.init(params), health.fresh())


def _with(tree, given, path=()):
  """A nested dict in which the leaves of `given` replace its own."""
  out = dict(tree)
  for key, value in given.items():
    full_path = (*path, key)
    if isinstance(value, dict) and isinstance(tree.get(key), dict):
      out[key] = _with(tree[key], value, full_path)
    elif key not in tree or jnp.shape(tree[key]) != jnp.shape(value):
      shape, own = jnp.shape(value), jnp.shape(tree.get(key))
      hint = f"the weights there are {shape}, this model's {own}: name a part that both have"
      raise ConfigError("start.part", "/".join(full_path), hint)
    else:
      out[key] = jnp.asarray(value, tree[key].dtype)
  return out
