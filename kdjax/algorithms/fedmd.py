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
import numpy as np

from kdjax.algorithms.separate import objective, train_phase
from kdjax.core import hosts, losses
from kdjax.core.clients import has_data, share, update
from kdjax.core.env import Env
from kdjax.core.passes import eval_mode
from kdjax.peers import Kind, Mail
from kdjax.types import (
  Algorithm,
  ClientState,
  ConfigError,
  Examples,
  Feed,
  Method,
  Outside,
  Phase,
  Step,
  at_least,
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


def apart(env: Env, hyper: Hyper, mail: Mail) -> Algorithm:
  """FedMD for clients that train apart: the consensus is the mean of those whose logits came.

  Raises:
    ConfigError: see `make`.
  """
  check(env, hyper)
  consensus, digest, revisit = cycle(env, hyper)
  say = consensus._replace(step=say_step(env, hyper), sent=lambda pos: {})
  agree = Phase("agree", agree_step(env), None, 1, outside=heard_logits(env, hyper, mail))

  def init(clients):
    table = jnp.zeros((hyper.alignment, env.task.classes), env.dtype)
    own = env.own(clients)
    said = tuple(jnp.zeros((len(env.ids(g)), *table.shape), table.dtype) for g in range(len(own)))
    return own, said, table[None]

  whole = (say, agree, digest, revisit)
  return Algorithm(init, whole, env.predict, prologue=prologue(env, hyper))


METHOD = Method(Hyper, make, apart=apart)


def check(env: Env, hyper: Hyper) -> None:
  """Refuses sizes that cannot be.

  Raises:
    ConfigError: with the key, its value and what would be right.
  """
  at_least(0, public_epochs=hyper.public_epochs, private_epochs=hyper.private_epochs)
  at_least(1, digest_epochs=hyper.digest_epochs, revisit_epochs=hyper.revisit_epochs)
  if hyper.public_epochs and not env.training.public_batch:
    raise ConfigError("public_batch", 0, "must be at least 1 for algo.public_epochs above 0")
  if not 1 <= hyper.alignment <= env.task.public_sizes.min():
    hint = f"must lie in 1..{env.task.public_sizes.min()}, the public examples"
    raise ConfigError("algo.alignment", hyper.alignment, hint)
  if hyper.public_epochs and not env.task.public_labels:
    hint = "pre-training on the public set uses its labels: set public_labels=True, or this to 0"
    raise ConfigError("algo.public_epochs", hyper.public_epochs, hint)
  data = env.mesh.shape["data"]
  for key in ("digest_batch", "private_batch"):
    size = getattr(hyper, key)
    if size < 1 or size % data:
      hint = f"must be a positive multiple of the mesh's data axis, {data}"
      raise ConfigError(f"algo.{key}", size, hint)


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

  def step(state, batch, now):
    said = logits_of(env, state.clients, batch.public)
    by_replica = (env.R, env.K)
    mean = env.gather(said).reshape(*by_replica, digest_share, env.task.classes).mean(1)
    row = env.gather(tuple(h.row for h in batch.public)).reshape(*by_replica, -1)[:, 0]
    mask = env.gather(tuple(h.mask for h in batch.public)).reshape(*by_replica, -1)[:, 0]
    table = fill(hyper, state.server, row, mask, mean)
    return state._replace(server=table), ({},) * len(env.cohorts)

  return step


def logits_of(
  env: Env, clients: tuple[ClientState, ...], halves: tuple[Examples, ...]
) -> tuple[jax.Array, ...]:
  """What everyone says of its public half, in evaluation mode; over cohorts, f32[K_g, B, C]."""

  def tell(model, client, half):
    return eval_mode(model, client, half.image).logits[:, 0]

  return tuple(
    env.map_clients(functools.partial(tell, c.model), client, half)
    for c, client, half in zip(env.cohorts, clients, halves, strict=True)
  )


def fill(
  hyper: Hyper, tables: jax.Array, row: jax.Array, mask: jax.Array, said: jax.Array
) -> jax.Array:
  """Writes a batch into tables; all but `tables` are a device's share of the batch.

  Args:
    hyper: Hyper.
    tables: f32[n, alignment, C].
    row: i32[n, B], where each example belongs.
    mask: f32[n, B], 0 where it is padding.
    said: f32[n, B, C].
  """
  whole = lambda x: jax.lax.all_gather(x, "data", axis=1, tiled=True)
  said, row, mask = whole(said), whole(row), whole(mask)
  row = jnp.where(mask > 0, row, hyper.alignment)  # padding falls off the end
  return jax.vmap(lambda t, r, s: t.at[r].set(s, mode="drop"))(tables, row, said)


def say_step(env: Env, hyper: Hyper) -> Step:
  """`Phase.step` in which a client that trains apart notes what it says of a batch."""

  def step(state, batch, now):
    said = logits_of(env, state.clients, batch.public)
    halves = zip(state.local, batch.public, said, strict=True)
    local = tuple(fill(hyper, table, half.row, half.mask, x) for table, half, x in halves)
    return state._replace(local=local), ({},) * len(env.cohorts)

  return step


def heard_logits(env: Env, hyper: Hyper, mail: Mail) -> Outside:
  """Leaves what own clients say of a round's examples, and takes what the others say."""
  shape = (hyper.alignment, env.task.classes)
  kind = Kind("logits", lambda k: {"logits": (shape, env.dtype)})
  others = [k for k in range(env.K) if k not in env.here]

  def outside(stepper, state, visit):
    tables = np.zeros((env.K, *shape), env.dtype)
    for cohort, said in zip(env.cohorts, hosts.fetch(state.local), strict=True):
      tables[list(cohort.ids)] = said
    mail.leave(kind, visit.round, {k: {"logits": tables[k]} for k in env.here})
    found = mail.of_round(kind, others, visit.round)
    for k, message in found.items():
      tables[k] = message.arrays["logits"]
    return (tables, np.isin(np.arange(env.K), [*env.here, *found])), mail.counts()

  return outside


def agree_step(env: Env) -> Step:
  """`Phase.step`: the consensus is the mean of those who spoke; `now.args` as they come."""

  def step(state, batch, now):
    tables, spoke = now.args  # f32[K, alignment, C], bool[K]
    mean = jnp.where(spoke[:, None, None], tables, 0).sum(0) / spoke.sum()
    return state._replace(server=mean[None]), ({},) * len(env.cohorts)

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
