"""The models that are evaluated: the core, its teacher, and those that `track` adds.

Lee, Yoo and Kwak, 2020, https://arxiv.org/abs/2010.10338v1, Figs. 4, 6 and 9, need more than the
core and the last edge: the core before a distillation, the first edge's models over all later
rounds, and single members of the ensemble (Section 5.1).
"""

import jax
import numpy as np
from jaxtyping import Float

from kdjax.core import snapshots
from kdjax.core.arrays import Array
from kdjax.core.env import Env
from kdjax.core.passes import eval_mode
from kdjax.types import Predict


def predict(env: Env, *, track: bool) -> Predict:
  """`Algorithm.predict`: logits f32[R, N, H, C] of these entries.

    core             the core's model
    edge             the models at the edge together: log of their mean probabilities
    before           track: the core before the last distillation
    first            track: the models of the first edge, together
    member1, ...     track: each of the models at the edge alone

  The tracked entries are zeros until the first models have returned.
  """

  def by_replica(logits):
    """[R, models, N, H, C] of [K_g, N, H, C]."""
    logits = jax.lax.all_gather(logits, "client", tiled=True)
    return logits.reshape(env.R, -1, *logits.shape[1:])

  def of_clients(state, images, g):
    logits = lambda client: eval_mode(env.cohorts[g].model, client, images).logits
    return by_replica(env.map_clients(logits, state.clients[g]))

  def of_snapshots(flat, images, g):
    """The logits of snapshots f32[K_0, ..., L] of cohort g."""

    def logits(snapshot):
      client = snapshots.client(env, g, snapshot)
      return eval_mode(env.cohorts[g].model, client, images).logits

    return by_replica(env.map_clients(logits, flat.reshape(-1, flat.shape[-1])))

  def predict(state, images):
    edge = of_clients(state, images, -1)
    entries = {"core": of_clients(state, images, 0)[:, 0], "edge": together(edge)}
    if track:
      core = state.local[0]
      entries["before"] = of_snapshots(core.begun, images, 0)[:, 0]
      entries["first"] = together(of_snapshots(core.first, images, -1))
      entries |= {f"member{m + 1}": edge[:, m] for m in range(edge.shape[1])}
    return entries

  return predict


def together(logits: Float[Array, "R n N H C"]) -> Float[Array, "R N H C"]:
  """The log of the n models' mean probabilities."""
  return jax.nn.logsumexp(jax.nn.log_softmax(logits), axis=1) - np.log(logits.shape[1])
