"""The steps of FedMD's phases: consensus and digest."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

from kdjax.algorithms.fedmd.hyper import Hyper
from kdjax.core import health, losses
from kdjax.core.arrays import Array
from kdjax.core.clients import has_data, local_mean, update, whole_batch
from kdjax.core.env import Env
from kdjax.core.hostile import as_sent
from kdjax.core.passes import eval_mode
from kdjax.types import ClientState, Examples, Step


def consensus_step(env: Env, hyper: Hyper) -> Step:
  """`Phase.step` that writes the mean logits of a common batch into server[replica, row]."""
  digest_share = hyper.digest_batch // env.mesh.shape["data"]

  def step(state, batch, now):
    own_logits = logits_of(env, as_sent(env, state.clients), batch.public)
    by_replica = (env.R, env.K)
    logits = env.gather(own_logits).reshape(*by_replica, digest_share, env.task.classes)
    valid = health.active_clients(env, state.clients).reshape(*by_replica, 1)
    valid &= health.finite_rows(logits)
    mean = agreement(logits, valid)
    row = env.gather(tuple(h.row for h in batch.public)).reshape(*by_replica, -1)[:, 0]
    mask = env.gather(tuple(h.mask for h in batch.public)).reshape(*by_replica, -1)[:, 0]
    table = fill(hyper, state.server, row, mask, mean)
    return state._replace(server=table), ({},) * len(env.cohorts)

  return step


def agreement(
  logits: Float[Array, "R K N C"], valid: Bool[Array, "R K N"]
) -> Float[Array, "R N C"]:
  """The mean logits over the clients with valid logits for an example; infinite without any.

  An infinite row replaces that of another example, of the round before, and is not trained on.
  """
  count = valid.sum(1)[..., None]
  total = jnp.where(valid[..., None], logits, 0).sum(1)
  mean = total / jnp.maximum(count, 1).astype(logits.dtype)
  return jnp.where(count > 0, mean, jnp.inf)


def logits_of(
  env: Env, clients: tuple[ClientState, ...], halves: tuple[Examples, ...]
) -> tuple[jax.Array, ...]:
  """Every client's logits for its public half, in evaluation mode; over cohorts, f32[K_g, B, C]."""

  def predict(model, client, half):
    return eval_mode(model, client, half.image).logits[:, 0]

  return tuple(
    env.map_clients(functools.partial(predict, c.model), client, half)
    for c, client, half in zip(env.cohorts, clients, halves, strict=True)
  )


def fill(
  hyper: Hyper, tables: jax.Array, row: jax.Array, mask: jax.Array, logits: jax.Array
) -> jax.Array:
  """Writes a batch into tables; all arguments but `tables` are a device's share of the batch.

  Args:
    hyper: Hyper.
    tables: f32[n, alignment, C].
    row: i32[n, B], the row of the table that each example belongs to.
    mask: f32[n, B], 0 where the example is padding.
    logits: f32[n, B, C].
  """
  logits, row, mask = whole_batch((logits, row, mask))
  row = jnp.where(mask > 0, row, hyper.alignment)  # padding is written out of range and dropped
  return jax.vmap(lambda t, r, z: t.at[r].set(z, mode="drop"))(tables, row, logits)


class DigestData(NamedTuple):
  """The data of one client's step of the digest."""

  public: Examples
  target: jax.Array  # f32[B, C], the consensus for these examples; zeros where there is none
  agreed: jax.Array  # bool[B], whether there is a consensus


def digest_step(env: Env) -> Step:
  """`Phase.step` in which every client fits its logits to the consensus.

  An example without a consensus adds nothing to the mean over the batch.
  """

  def objective(apply, params, d):
    out, model_state = apply(params, d.public)
    error = jnp.where(d.agreed, losses.absolute_error(d.target, out.logits[:, 0]), 0)
    loss = local_mean(error, d.public)
    return loss, ({"loss": loss, "digest": loss}, model_state)

  def step(state, batch, now):
    data = []
    for g, half in enumerate(batch.public):
      target = state.server[env.ids(g)[:, None] // env.K, half.row]
      agreed = health.finite_rows(target)
      data.append(DigestData(half, jnp.where(agreed[..., None], target, 0), agreed))
    active = tuple(map(has_data, batch.public))
    clients, aux = update(env, state.clients, objective, tuple(data), now.lr, active)
    return state._replace(clients=clients), aux

  return step
