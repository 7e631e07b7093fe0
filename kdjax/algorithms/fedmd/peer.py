"""FedMD of clients that train apart: logits travel as messages, see kdjax/peers.

The consensus is the mean of the logits of the round that have arrived, own ones included.
"""

import numpy as np

from kdjax.algorithms.fedmd.hyper import Hyper
from kdjax.algorithms.fedmd.steps import agreement, fill, logits_of
from kdjax.core import health, hosts
from kdjax.core.env import Env
from kdjax.peers import Kind, Mail
from kdjax.types import Outside, Step


def say_step(env: Env, hyper: Hyper) -> Step:
  """`Phase.step` in which clients that train apart write their logits of a batch into a table."""

  def step(state, batch, now):
    logits = logits_of(env, state.clients, batch.public)
    local = tuple(
      fill(hyper, table, half.row, half.mask, z)
      for table, half, z in zip(state.local, batch.public, logits, strict=True)
    )
    return state._replace(local=local), ({},) * len(env.cohorts)

  return step


def heard_logits(env: Env, hyper: Hyper, mail: Mail) -> Outside:
  """Leaves own clients' logits of a round's examples, and takes the others' logits."""
  shape = (hyper.alignment, env.task.classes)
  kind = Kind("logits", lambda k: {"logits": (shape, env.dtype)})
  others = [k for k in range(env.K) if k not in env.local_ids]

  def outside(stepper, state, visit):
    tables = np.zeros((env.K, *shape), env.dtype)
    for cohort, logits in zip(env.cohorts, hosts.fetch(state.local), strict=True):
      tables[list(cohort.ids)] = logits
    frozen = health.frozen(env, state.clients)
    own = [k for k in env.local_ids if k not in frozen]
    mail.leave(kind, visit.round, {k: {"logits": tables[k]} for k in own})
    received = mail.of_round(kind, others, visit.round)
    for k, message in received.items():
      tables[k] = message.arrays["logits"]
    return (tables, np.isin(np.arange(env.K), [*own, *received])), mail.counts()

  return outside


def agree_step(env: Env) -> Step:
  """`Phase.step`: the consensus is the mean of the logits that arrived, see `heard_logits`."""

  def step(state, batch, now):
    tables, arrived = now.args  # f32[K, alignment, C], bool[K]
    valid = (arrived[:, None] & health.finite_rows(tables))[None]
    return state._replace(server=agreement(tables[None], valid)), ({},) * len(env.cohorts)

  return step
