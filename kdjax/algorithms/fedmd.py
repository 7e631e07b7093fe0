"""FedMD: clients of any architecture agree on logits for public examples, then revisit their own.

Li and Wang: FedMD: Heterogenous Federated Learning via Model Distillation, NeurIPS workshop 2019,
https://arxiv.org/abs/1910.03581, Algorithm 1, with the details of the authors' code:

  transfer   everyone trains on the labelled public set (if `public_labels`), then on its own data
  consensus  everyone's logits on a fresh random part of the public set, averaged
  digest     everyone fits its logits to the consensus, mean absolute error
  revisit    everyone trains on its own private data for a few epochs

Departures: the number of pre-training epochs is fixed where the code stops early on a validation
set; public examples of a round are drawn uniformly, not by label, so that no public label is used
unless the config's `public_labels` says so; the consensus is taken in evaluation mode;
an augmentation, which the code does not have, would show the digest other crops than the consensus.
"""

import functools

import jax
import jax.numpy as jnp

from kdjax.algorithms.separate import objective, train_phase
from kdjax.core import losses
from kdjax.core.clients import has_data, share, update
from kdjax.core.passes import eval_mode
from kdjax.types import Algorithm, ConfigError, Feed, Phase, at_least


def make(
  env,
  *,
  public_epochs,
  private_epochs,
  private_batch,
  alignment,
  digest_epochs,
  digest_batch,
  revisit_epochs,
):
  """FedMD.

  Args:
    env: Env; `batch` is the revisit's batch, `public_batch` the one of the public pre-training.
    public_epochs: passes of the pre-training on the public set, which needs `public_labels`.
    private_epochs, private_batch: passes and batch of the pre-training on private data; 0 passes
      leave it out, as they do for the public one.
    alignment: public examples per round, N_alignment.
    digest_epochs, digest_batch: passes over them, and their batch.
    revisit_epochs: passes over the private data per round.

  Raises:
    ConfigError: for sizes that cannot be.
  """
  at_least(0, public_epochs=public_epochs, private_epochs=private_epochs)
  at_least(1, digest_epochs=digest_epochs, revisit_epochs=revisit_epochs)
  if public_epochs and not env.public_batch:
    raise ConfigError("public_batch", 0, "must be at least 1 for algo.public_epochs above 0")
  if not 1 <= alignment <= env.public_sizes.min():
    hint = f"must lie in 1..{env.public_sizes.min()}, the public examples"
    raise ConfigError("algo.alignment", alignment, hint)
  if public_epochs and not env.public_labels:
    hint = "pre-training on the public set uses its labels: set public_labels=True, or this to 0"
    raise ConfigError("algo.public_epochs", public_epochs, hint)
  for key, size in (("digest_batch", digest_batch), ("private_batch", private_batch)):
    if size < 1 or size % env.mesh.shape["data"]:
      hint = f"must be a positive multiple of the mesh's data axis, {env.mesh.shape['data']}"
      raise ConfigError(f"algo.{key}", size, hint)

  def public_step(state, batch, now):
    active = tuple(map(has_data, batch.public))
    clients, aux = update(env, state.clients, objective, batch.public, now.lr, active)
    return state._replace(clients=clients), aux

  def consensus(state, batch, now):
    """Writes this batch's mean logits into server[replica, row]; every client sees the same."""

    def tell(model, client, half):
      return eval_mode(model, client, half.image).logits[:, 0]

    said = tuple(
      env.map_clients(functools.partial(tell, c.model), client, half)
      for c, client, half in zip(env.cohorts, state.clients, batch.public, strict=True)
    )
    by_replica = (env.R, env.K)
    mean = env.gather(said).reshape(*by_replica, digest_share(), env.classes).mean(1)
    row = env.gather(tuple(h.row for h in batch.public)).reshape(*by_replica, -1)[:, 0]
    mask = env.gather(tuple(h.mask for h in batch.public)).reshape(*by_replica, -1)[:, 0]
    mean, row, mask = whole_batch((mean, row, mask))
    row = jnp.where(mask > 0, row, alignment)  # padding falls off the end
    table = jax.vmap(lambda t, r, m: t.at[r].set(m, mode="drop"))(state.server, row, mean)
    return state._replace(server=table), ({},) * len(env.cohorts)

  def digest_share():
    return digest_batch // env.mesh.shape["data"]

  def whole_batch(tree):
    return jax.tree.map(lambda x: jax.lax.all_gather(x, "data", axis=1, tiled=True), tree)

  def agree(apply, params, d):
    out, model_state = apply(params, d["public"])
    error = losses.absolute_error(d["target"], out.logits[:, 0])
    loss = share(error, d["public"].mask, d["public"].total)
    return loss, ({"loss": loss, "digest": loss}, model_state)

  def digest(state, batch, now):
    data = tuple(
      {"public": half, "target": state.server[env.ids(g)[:, None] // env.K, half.row]}
      for g, half in enumerate(batch.public)
    )
    active = tuple(map(has_data, batch.public))
    clients, aux = update(env, state.clients, agree, data, now.lr, active)
    return state._replace(clients=clients), aux

  def init(clients):
    table = jnp.zeros((env.R, alignment, env.classes), env.dtype)
    return clients, ((),) * len(clients), table

  def passes(name, step, **feed):
    return Phase(name, step, Feed(kind="epoch", **feed), None, lr=env.rate)

  def private(name, n, batch):
    feed = Feed(private=batch, kind="epoch", epochs=n)
    return train_phase(env, name=name, feed=feed, steps=None)

  prologue = []
  if public_epochs:
    prologue.append(
      passes("public training", public_step, public=env.public_batch, epochs=public_epochs)
    )
  if private_epochs:
    prologue.append(private("private training", private_epochs, private_batch))
  # Every client sends its logits to the server, and the server the consensus to every client.
  table_bytes = alignment * env.classes * jnp.dtype(env.dtype).itemsize
  once = 2 * env.clients * table_bytes
  share_of_round = lambda pos: {"logits": once} if pos.i == 0 else {}
  cycle = (
    passes("consensus", consensus, public=digest_batch, common=True, sample=alignment)._replace(
      sent=share_of_round
    ),
    passes("digest", digest, public=digest_batch, epochs=digest_epochs, sample=alignment),
    private("revisit", revisit_epochs, env.batch),
  )
  return Algorithm(init, cycle, env.predict, prologue=tuple(prologue))
