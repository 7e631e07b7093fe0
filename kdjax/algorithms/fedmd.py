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

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from kdjax.algorithms.separate import objective, train_phase
from kdjax.core import losses
from kdjax.core.clients import has_data, share, update
from kdjax.core.env import Env
from kdjax.core.passes import eval_mode
from kdjax.types import (
  MOST_EPOCHS,
  Algorithm,
  ConfigError,
  Feed,
  Method,
  Phase,
  Step,
  at_least,
  between,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hyper:
  """Hyper-parameters of FedMD; `batch` is the revisit's, `public_batch` the public training's."""

  public_epochs: int  # passes of the pre-training on the public set, which needs `public_labels`
  private_epochs: int  # and on private data; 0 passes leave a pre-training out
  private_batch: int  # its batch
  alignment: int  # N_alignment, public examples per round
  digest_epochs: int  # passes over them
  digest_batch: int  # their batch
  revisit_epochs: int  # passes over the private data per round

  def __post_init__(self):
    """Refuses values that cannot be, whatever the ensemble: ConfigError."""
    passes = dict(public_epochs=self.public_epochs, private_epochs=self.private_epochs)
    between(0, MOST_EPOCHS, **passes)
    at_least(1, private_batch=self.private_batch, digest_batch=self.digest_batch)
    at_least(1, alignment=self.alignment)
    passes = dict(digest_epochs=self.digest_epochs, revisit_epochs=self.revisit_epochs)
    between(1, MOST_EPOCHS, **passes)


def make(env: Env, hyper: Hyper) -> Algorithm:
  """FedMD; see the file's docstring.

  Raises:
    ConfigError: for sizes that cannot be.
  """
  check(env, hyper)

  def init(clients):
    table = jnp.zeros((env.R, hyper.alignment, env.task.classes), env.dtype)
    return clients, ((),) * len(clients), table

  return Algorithm(init, cycle(env, hyper), env.predict, prologue=prologue(env, hyper))


METHOD = Method(Hyper, make)


def check(env: Env, hyper: Hyper) -> None:
  """Refuses sizes that cannot be.

  Raises:
    ConfigError: with the key, its value and what would be right.
  """
  if hyper.public_epochs and not env.training.public_batch:
    raise ConfigError("public_batch", 0, "must be at least 1 for algo.public_epochs above 0")
  if not 1 <= hyper.alignment <= env.task.public_sizes.min():
    hint = f"must lie in 1..{env.task.public_sizes.min()}, the public examples"
    raise ConfigError("algo.alignment", hyper.alignment, hint)
  if hyper.public_epochs and not env.task.public_labels:
    hint = "pre-training on the public set uses its labels: set public_labels=True, or this to 0"
    raise ConfigError("algo.public_epochs", hyper.public_epochs, hint)
  data = env.mesh.shape["data"]
  most = {"digest_batch": hyper.alignment, "private_batch": int(env.task.private_sizes.max())}
  for key, rows in most.items():
    size = getattr(hyper, key)
    if size % data:
      hint = f"must be a positive multiple of the mesh's data axis, {data}"
      raise ConfigError(f"algo.{key}", size, hint)
    if size > -(-rows // data) * data:
      raise ConfigError(f"algo.{key}", size, f"at most {rows:,}, all that there is to take it from")


def prologue(env: Env, hyper: Hyper) -> tuple[Phase, ...]:
  """Transfer learning: the public set, then everyone's own."""
  phases = []
  if hyper.public_epochs:
    public = dict(public=env.training.public_batch, epochs=hyper.public_epochs)
    phases.append(passes(env, "public training", public_step(env), **public))
  if hyper.private_epochs:
    own = Feed(private=hyper.private_batch, kind="epoch", epochs=hyper.private_epochs)
    phases.append(train_phase(env, name="private training", feed=own, steps=None))
  return tuple(phases)


def cycle(env: Env, hyper: Hyper) -> tuple[Phase, ...]:
  """A round: consensus, digest, revisit."""
  # Every client sends its logits to the server, and the server the consensus to every client.
  table_bytes = hyper.alignment * env.task.classes * jnp.dtype(env.dtype).itemsize
  logits = {"logits": 2 * env.clients * table_bytes}
  aligned = dict(public=hyper.digest_batch, sample=hyper.alignment)
  revisit = Feed(private=env.training.batch, kind="epoch", epochs=hyper.revisit_epochs)
  return (
    passes(env, "consensus", consensus_step(env, hyper), common=True, **aligned)._replace(
      sent=lambda pos: logits if pos.i == 0 else {}
    ),
    passes(env, "digest", digest_step(env), epochs=hyper.digest_epochs, **aligned),
    train_phase(env, name="revisit", feed=revisit, steps=None),
  )


def passes(env: Env, name: str, step: Step, **feed: Any) -> Phase:
  """A phase of whole epochs; `feed` as `Feed`'s fields."""
  return Phase(name, step, Feed(kind="epoch", **feed), None, lr=env.rate)


def public_step(env: Env) -> Step:
  """`Phase.step` of supervised training on the public set."""

  def step(state, batch, now):
    active = tuple(map(has_data, batch.public))
    clients, aux = update(env, state.clients, objective, batch.public, now.lr, active)
    return state._replace(clients=clients), aux

  return step


def consensus_step(env: Env, hyper: Hyper) -> Step:
  """`Phase.step` that writes a batch's mean logits into server[replica, row], the same for all."""
  digest_share = hyper.digest_batch // env.mesh.shape["data"]

  def tell(model, client, half):
    return eval_mode(model, client, half.image).logits[:, 0]

  def whole_batch(tree):
    return jax.tree.map(lambda x: jax.lax.all_gather(x, "data", axis=1, tiled=True), tree)

  def step(state, batch, now):
    said = tuple(
      env.map_clients(functools.partial(tell, c.model), client, half)
      for c, client, half in zip(env.cohorts, state.clients, batch.public, strict=True)
    )
    by_replica = (env.R, env.K)
    mean = env.gather(said).reshape(*by_replica, digest_share, env.task.classes).mean(1)
    row = env.gather(tuple(h.row for h in batch.public)).reshape(*by_replica, -1)[:, 0]
    mask = env.gather(tuple(h.mask for h in batch.public)).reshape(*by_replica, -1)[:, 0]
    mean, row, mask = whole_batch((mean, row, mask))
    row = jnp.where(mask > 0, row, hyper.alignment)  # padding falls off the end
    table = jax.vmap(lambda t, r, m: t.at[r].set(m, mode="drop"))(state.server, row, mean)
    return state._replace(server=table), ({},) * len(env.cohorts)

  return step


def digest_step(env: Env) -> Step:
  """`Phase.step` in which everyone fits its logits to the consensus."""

  def agree(apply, params, d):
    out, model_state = apply(params, d["public"])
    error = losses.absolute_error(d["target"], out.logits[:, 0])
    loss = share(error, d["public"].mask, d["public"].total)
    return loss, ({"loss": loss, "digest": loss}, model_state)

  def step(state, batch, now):
    data = tuple(
      {"public": half, "target": state.server[env.ids(g)[:, None] // env.K, half.row]}
      for g, half in enumerate(batch.public)
    )
    active = tuple(map(has_data, batch.public))
    clients, aux = update(env, state.clients, agree, data, now.lr, active)
    return state._replace(clients=clients), aux

  return step
