"""Server networks, one per replica: every device has their weights and a share of their batch.

Their data are the clients' tables [K_g, N, ...], each on the device of its client. A batch of S
rows (`types.Rows`) is split over all devices, the `data` axis first, then `client`. The device that
holds a row contributes it, and a reduce-scatter leaves each device its S / devices rows.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jaxtyping import Bool, Float, Shaped

from kdjax.core import gradients
from kdjax.core.arrays import Array
from kdjax.core.clients import Gradients, apply_step, init_client
from kdjax.core.env import Env
from kdjax.core.noinline import noinline
from kdjax.core.passes import eval_mode
from kdjax.core.random import EVERYONE, client_key
from kdjax.types import ClientState, ModelOut, PyTree, Rows

AXES = ("client", "data")  # the mesh axes that split a server's batch


def init(
  env: Env, model: nn.Module, tx: optax.GradientTransformation, shape: tuple[int, ...]
) -> ClientState:
  """Fresh servers, each from its replica's seed; `shape` is one example's.

  Returns:
    ClientState with leaves [R, ...].
  """

  def fresh(seed):
    key = client_key(seed, "server", 0, EVERYONE)
    return init_client(model, tx, key, shape, env.dtype)

  return jax.vmap(fresh)(jnp.asarray(env.population.seeds))


def part(env: Env, x: Shaped[Array, "R S ..."]) -> Shaped[Array, "R share ..."]:
  """This device's share of x [R, S, ...], equal on every device: [R, S / devices, ...]."""
  place = jax.lax.axis_index("data") * env.mesh.shape["client"] + jax.lax.axis_index("client")
  shares = x.reshape(env.R, env.mesh.size, -1, *x.shape[2:])
  return jax.lax.dynamic_index_in_dim(shares, place, 1, keepdims=False)


def whole(x: Shaped[Array, "R share ..."]) -> Shaped[Array, "R S ..."]:
  """Joins the shares of a batch on all devices: [R, S / devices, ...] -> [R, S, ...]."""
  for axis in AXES:
    x = jax.lax.all_gather(x, axis, axis=1, tiled=True)
  return x


def collect(env: Env, tables: tuple[PyTree, ...], rows: Rows) -> PyTree:
  """This device's share of a batch of rows, read from their owners' tables.

  Args:
    env: Env.
    tables: tuple over cohorts of pytrees of numbers, leaves [K_g, N, ...], equal along `data`.
    rows: Rows, equal on every device.

  Returns:
    A pytree with leaves [R, S / devices, ...].
  """
  shards, shard = env.mesh.shape["data"], jax.lax.axis_index("data")

  def slice_of(x):
    parts = x.reshape(env.R, shards, -1)
    return jax.lax.dynamic_index_in_dim(parts, shard, 1, keepdims=False)

  owner, row = slice_of(rows.owner), slice_of(rows.row)  # [R, S / shards]
  hits = [owner[..., None] == env.ids(g) for g in range(len(tables))]

  def gather(*leaves):
    total = 0  # a row has one owner, so all other addends are zeros
    for hit, x in zip(hits, leaves, strict=True):
      own = jnp.expand_dims(hit.any(-1), range(2, x.ndim))
      total += jnp.where(own, x[hit.argmax(-1), row], jnp.zeros((), x.dtype))
    return jax.lax.psum_scatter(total, "client", scatter_dimension=1, tiled=True)

  return jax.tree.map(gather, *tables)


def deliver(
  env: Env, tables: tuple[jax.Array, ...], rows: Rows, values: Shaped[Array, "R S ..."]
) -> tuple[tuple[jax.Array, ...], tuple[jax.Array, ...]]:
  """Writes a value for every unmasked row into its owner's table.

  Args:
    env: Env.
    tables: tuple over cohorts of arrays [K_g, N, ...].
    rows: Rows, equal on every device.
    values: [R, S, ...], equal on every device.

  Returns:
    (tables, reached): the new tables, and a tuple over cohorts of bool[K_g], the clients that
    received a value.
  """
  owner, row, live = (x.reshape(-1) for x in (rows.owner, rows.row, rows.mask > 0))
  values = values.reshape(-1, *values.shape[2:])
  written, reached = [], []
  for g, table in enumerate(tables):
    hit = (owner[:, None] == env.ids(g)) & live[:, None]
    place = jnp.where(hit.any(1), hit.argmax(1), len(table))  # others' rows are dropped
    written.append(table.at[place, row].set(values, mode="drop"))
    reached.append(hit.any(0))
  return tuple(written), tuple(reached)


def logits(
  env: Env,
  model: nn.Module,
  servers: ClientState,
  images: Float[Array, "R N ..."],
  mask: Float[Array, "R N"] | None = None,
) -> Float[Array, "R N C"]:
  """Every server's logits; images [R, N, ...] -> f32[R, N, C].

  Without a mask in evaluation mode; with a mask f32[R, N] in training mode, with the statistics of
  these images.
  """
  if mask is None:
    return env.map_clients(lambda s, x: eval_mode(model, s, x).logits[:, 0], servers, images)
  predict = lambda s, x, m: train_mode(model, s.model_state, s.params, x, m)[0].logits[:, 0]
  return env.map_clients(predict, servers, images, mask)


def train_mode(
  model: nn.Module,
  model_state: PyTree,
  params: PyTree,
  images: Float[Array, "N ..."],
  mask: Float[Array, " N"],
) -> tuple[ModelOut, PyTree]:
  """A single server's (ModelOut, new model_state) in training mode."""
  variables = {"params": params, **model_state}
  out, changed = model.apply(variables, images, train=True, mask=mask, mutable=list(model_state))
  return out, dict(changed)


def update(
  env: Env,
  model: nn.Module,
  tx: optax.GradientTransformation,
  servers: ClientState,
  objective: Callable,
  data: PyTree,
  lr: Float[Array, " R"],
  active: Bool[Array, " R"],
) -> tuple[ClientState, dict[str, jax.Array], jax.Array]:
  """One optimiser step of every replica's server.

  Args:
    env: Env.
    model: a network whose BatchNorm sums over `AXES`; without dropout, whose draws belong to
      clients.
    tx: optax.GradientTransformation without a learning rate.
    servers: ClientState, leaves [R, ...].
    objective: (apply, params, d) -> (share of the loss over `AXES`, (aux, model_state, logits)) for
      one server, where `apply(params, images, mask) -> (ModelOut, model_state)` is a pass in
      training mode, d this server's part of `data`, aux a dict of shares, and `logits` an array
      [S / devices, ...].
    data: a pytree, leaves [R, S / devices, ...].
    lr: f32[R].
    active: bool[R]; a server that is not active does not change.

  Returns:
    (servers, aux, logits), aux a dict of f32[R] and logits [R, S / devices, ...].
  """

  def differentiate(server, d):
    apply = functools.partial(train_mode, model, server.model_state)
    loss = lambda params: objective(apply, params, d)
    grads, (aux, statistics, z) = gradients.of(loss, server.params)
    return Gradients(grads, aux, statistics), z

  def step(server, grads, lr, active):
    return apply_step(env, tx, lr, server, grads, active)

  grads, z = env.map_clients(differentiate, servers, data)
  params, aux = jax.lax.psum((grads.params, grads.aux), AXES)
  grads = Gradients(params, aux, grads.statistics)
  # A loop over a single replica would be fused with what precedes it, and round differently.
  return *noinline(jax.vmap(step))(servers, grads, lr, active), z
