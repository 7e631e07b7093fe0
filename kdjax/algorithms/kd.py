"""Real-time distillation: clients imitate their sources on their own data while all clients train.

The baseline KD of Goldstein, Kachuee, Shiell, Sarrafzadeh: Real-Time Decentralized Knowledge
Transfer at the Edge, 2020, https://arxiv.org/abs/2011.05961, Section 4: pairwise transfer without
its transfer matrices. In turns,

  local   every client trains on its private data
  fetch   every client with sources in the graph receives their weights
  distil  over all its weights, such a client minimises
            (alpha CE + beta mean_a KL(p_a || p_b)) / 2                                   (Eq. 5)
          where p_a is the prediction of source a and p_b its own. Clients without sources continue
          to train on their private data.

Readings: the source is the first argument of Eq. 4's KL. Eq. 5 takes one mean over sources, as
Algorithm 1 does. Departure: a source's snapshot stays the same within an epoch of distillation.
"""

import dataclasses

import jax.numpy as jnp

from kdjax.algorithms.separate import epoch_phase, train_phase
from kdjax.core import copies, losses
from kdjax.core.clients import has_data, local_mean, update
from kdjax.core.env import Env
from kdjax.core.ranges import MOST_EPOCHS, at_least, between
from kdjax.types import Algorithm, Feed, Method


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hyper:
  """Hyper-parameters of real-time distillation."""

  alpha: float  # weight of the cross entropy
  beta: float  # weight of the divergence from the sources
  local_epochs: int  # passes over the private data before a fetch
  distil_epochs: int  # passes over the private data after a fetch

  def __post_init__(self):
    """Raises ConfigError for invalid values."""
    at_least(0, alpha=self.alpha, beta=self.beta)
    between(1, MOST_EPOCHS, local_epochs=self.local_epochs, distil_epochs=self.distil_epochs)


def make(env: Env, hyper: Hyper) -> Algorithm:
  """Real-time distillation; see the file's docstring."""

  def objective(apply, params, d):
    half, sources = d
    out, model_state = apply(params, half)
    source_logits = copies.logits(env, sources.flat, sources.peer, half.image)
    logits = out.logits[:, 0]
    ce = local_mean(losses.cross_entropy(logits, half.label), half)
    kl = local_mean(copies.divergence(source_logits, sources.peer, logits), half)
    loss = jnp.where((sources.peer >= 0).any(), (hyper.alpha * ce + hyper.beta * kl) / 2, ce)
    aux = {"loss": loss, "cross_entropy": ce, "divergence": kl}
    return loss, (aux | {"refused": copies.refused(source_logits, half.mask)}, model_state)

  def distil(state, batch, now):
    data = tuple(zip(batch.private, state.local, strict=True))
    active = tuple(map(has_data, batch.private))
    clients, aux = update(env, state.clients, objective, data, now.lr, active)
    return state._replace(clients=clients), aux

  batch = env.training.batch
  local = Feed(private=batch, kind="epoch", epochs=hyper.local_epochs)
  cycle = (
    train_phase(env, name="local", feed=local, steps=None),
    copies.fetch_phase(env),
    epoch_phase("distil", distil, private=batch, epochs=hyper.distil_epochs),
  )
  init = lambda clients: (clients, copies.none(env), ())
  return Algorithm(init, cycle, env.predict, uses_graph=True)


METHOD = Method(Hyper, make)
