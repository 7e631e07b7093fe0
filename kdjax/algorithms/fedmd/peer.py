"""FedMD of clients that train apart: logits travel as messages, see kdjax/peers.

The consensus is the mean of those whose logits of the round are there, own ones included.
"""

import numpy as np

from kdjax.algorithms.fedmd.hyper import Hyper
from kdjax.algorithms.fedmd.steps import agreement, fill, logits_of
from kdjax.core import health, hosts
from kdjax.core.env import Env
from kdjax.peers import Kind, Mail
from kdjax.types import Outside, Step


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
  others = [k for k in range(env.K) if k not in env.local_ids]

  def outside(stepper, state, visit):
    tables = np.zeros((env.K, *shape), env.dtype)
    for cohort, said in zip(env.cohorts, hosts.fetch(state.local), strict=True):
      tables[list(cohort.ids)] = said
    silent = health.frozen(env, state.clients)
    own = [k for k in env.local_ids if k not in silent]
    mail.leave(kind, visit.round, {k: {"logits": tables[k]} for k in own})
    found = mail.of_round(kind, others, visit.round)
    for k, message in found.items():
      tables[k] = message.arrays["logits"]
    return (tables, np.isin(np.arange(env.K), [*own, *found])), mail.counts()

  return outside


def agree_step(env: Env) -> Step:
  """`Phase.step`: the consensus is the mean of those who spoke; `now.args` as they come."""

  def step(state, batch, now):
    tables, spoke = now.args  # f32[K, alignment, C], bool[K]
    heard = (spoke[:, None] & health.finite_rows(tables))[None]
    return state._replace(server=agreement(tables[None], heard)), ({},) * len(env.cohorts)

  return step
