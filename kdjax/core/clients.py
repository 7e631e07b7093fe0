"""A step of every client, on one device's share: losses, gradients, updates, fresh states.

Losses are shares that add up over the mesh's `data` axis (core/env.py); gradients are mapped over
clients first and summed over `data` once for all of them.
"""

from typing import Any

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
    (clients, aux): the new states, and a tuple over cohorts of dicts of f32[K_g], in which 'live'
    says who took the step: who rests, or may not take it (core/health.py), has no losses.
  """
  new: list[ClientState] = []
  auxes: list[dict[str, jax.Array]] = []
  for g, (cohort, client, d) in enumerate(zip(env.cohorts, clients, data, strict=True)):
    if d is None:
      new.append(client)
      auxes.append({})
      continue

    def differentiate(c, d, cohort=cohort):
      def apply(params, half, statistics=c.model_state):
        return train_mode(cohort.model, statistics, params, half)

      grads, (aux, statistics) = gradients.of(lambda params: objective(apply, params, d), c.params)
      return grads, aux, statistics

    def step(c, grads, aux, statistics, alive, cohort=cohort):
      return take(env, cohort.tx, lr, c, grads, aux, statistics, alive)

    def both(c, d, alive, differentiate=differentiate, step=step):
      return step(c, *differentiate(c, d), alive)

    alive = None if active is None else active[g]
    if env.mesh.shape["data"] == 1:  # no client's gradients outlive its turn
      stepped, aux = mapping.evolve(env.local_map, both, client, d, alive)
    else:
      grads, aux, statistics = env.map_clients(differentiate, client, d)
      grads, aux = jax.lax.psum((grads, aux), "data")
      stepped, aux = env.map_clients(step, client, grads, aux, statistics, alive)
    new.append(stepped)
    auxes.append(aux)
  return tuple(new), tuple(auxes)


def take(
  env: Env,
  tx: optax.GradientTransformation,
  lr: Float[Array, ""] | float,
  old: ClientState,
  grads: PyTree,
  aux: dict[str, jax.Array],
  statistics: PyTree,
  alive: Bool[Array, ""] | None,
) -> tuple[ClientState, dict[str, jax.Array]]:
  """One client's step; one that is not sound (core/health.py) moves neither weights nor statistics.

  Args:
    env: Env.
    tx: its optimiser.
    lr: f32[].
    old: its state.
    grads: of its parameters.
    aux: what its objective says.
    statistics: its model_state after the pass.
    alive: bool[], whether it takes part in this step; None: it does.

  Returns:
    (ClientState, aux with whether it took the step as 'live', or could not as 'failed').
  """
  fine, active = health.may_step(aux, grads, statistics), health.active(env, old.health)
  taken, failed = fine & active, ~fine & active
  params, opt_state = gradients.apply_update(tx, lr, grads, old.params, old.opt_state, taken)
  after = health.counted(old.health, failed, aux.get("refused", 0))
  new = ClientState(params, where(taken, statistics, old.model_state), opt_state, after)
  if alive is None:
    return new, aux | {"live": taken, "failed": failed}
  return where(alive, new, old), aux | {"live": taken & alive, "failed": failed & alive}


def where(chosen: Bool[Array, ""], new: PyTree, old: PyTree) -> PyTree:
  """The new tree of one client if it is chosen, else the old one."""
  return jax.tree.map(lambda n, o: jnp.where(chosen, n, o), new, old)


def client(
  model: nn.Module,
  tx: optax.GradientTransformation,
  key: jax.Array,
  image: tuple[int, ...],
  dtype: str,
  given: dict[str, Any],
) -> ClientState:
  """One client's ClientState: fresh, but for the weights that are given."""
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
