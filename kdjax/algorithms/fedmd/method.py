"""FedMD: clients of any architecture agree on logits for public examples, then revisit their own.

Li and Wang: FedMD: Heterogenous Federated Learning via Model Distillation, NeurIPS workshop 2019,
https://arxiv.org/abs/1910.03581, Algorithm 1, with the details of the authors' code:

  transfer   each client trains on the labelled public set (with `public_labels`), then on its own
  consensus  all clients' logits on a fresh random part of the public set are averaged
  digest     each client fits its logits to the consensus, by the mean absolute error
  revisit    each client trains on its own private data for a few epochs

Departures: the number of pre-training epochs is fixed, where the code stops early on a validation
set. The public examples of a round are drawn uniformly, not by label, so that no public label is
used unless the config's `public_labels` allows it. The consensus is taken in evaluation mode. An
augmentation, which the code does not have, would show the digest other crops than the consensus.
"""

import jax.numpy as jnp

from kdjax.algorithms.fedmd.hyper import Hyper, check
from kdjax.algorithms.fedmd.peer import agree_step, heard_logits, say_step
from kdjax.algorithms.fedmd.steps import consensus_step, digest_step
from kdjax.algorithms.separate import epoch_phase, supervised_step, train_phase
from kdjax.core.env import Env
from kdjax.peers import Mail
from kdjax.types import Algorithm, Feed, Method, Phase


def make(env: Env, hyper: Hyper) -> Algorithm:
  """FedMD; see the file's docstring.

  Raises:
    ConfigError: for invalid sizes.
  """
  check(env, hyper)

  def init(clients):
    table = jnp.zeros((env.R, hyper.alignment, env.task.classes), env.dtype)
    return clients, ((),) * len(clients), table

  return Algorithm(init, cycle(env, hyper), env.predict, prologue=prologue(env, hyper))


def make_peer(env: Env, hyper: Hyper, mail: Mail) -> Algorithm:
  """FedMD for clients that train apart: the consensus is the mean of the logits that arrived.

  Raises:
    ConfigError: see `make`.
  """
  check(env, hyper)
  consensus, digest, revisit = cycle(env, hyper)
  say = consensus._replace(step=say_step(env, hyper), bytes_sent=lambda pos: {})
  agree = Phase("agree", agree_step(env), None, 1, outside=heard_logits(env, hyper, mail))

  def init(clients):
    table = jnp.zeros((hyper.alignment, env.task.classes), env.dtype)
    own = env.own(clients)
    tables = tuple(jnp.zeros((len(env.ids(g)), *table.shape), table.dtype) for g in range(len(own)))
    return own, tables, table[None]

  phases = (say, agree, digest, revisit)
  return Algorithm(init, phases, env.predict, prologue=prologue(env, hyper))


METHOD = Method(Hyper, make, make_peer=make_peer)


def prologue(env: Env, hyper: Hyper) -> tuple[Phase, ...]:
  """Transfer learning: on the public set, then on each client's own data."""
  phases = []
  if hyper.public_epochs:
    public = dict(public=env.training.public_batch, epochs=hyper.public_epochs)
    phases.append(epoch_phase("public training", supervised_step(env, "public"), **public))
  if hyper.private_epochs:
    own = Feed(private=hyper.private_batch, kind="epoch", epochs=hyper.private_epochs)
    phases.append(train_phase(env, name="private training", feed=own, steps=None))
  return tuple(phases)


def cycle(env: Env, hyper: Hyper) -> tuple[Phase, ...]:
  """The phases of a round: consensus, digest, revisit."""
  # Every client sends its logits to the server, and the server sends every client the consensus.
  table_bytes = hyper.alignment * env.task.classes * jnp.dtype(env.dtype).itemsize
  logits = {"logits": 2 * env.clients * table_bytes}
  aligned = dict(public=hyper.digest_batch, sample=hyper.alignment)
  revisit = Feed(private=env.training.batch, kind="epoch", epochs=hyper.revisit_epochs)
  return (
    epoch_phase("consensus", consensus_step(env, hyper), common=True, **aligned)._replace(
      bytes_sent=lambda pos: logits if pos.visit_call == 0 else {}
    ),
    epoch_phase("digest", digest_step(env), epochs=hyper.digest_epochs, **aligned),
    train_phase(env, name="revisit", feed=revisit, steps=None),
  )
