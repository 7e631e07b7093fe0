"""What can be tested of asynchronous edge learning: the core, its teacher, and whom `track` names.

Lee, Yoo and Kwak, 2020, https://arxiv.org/abs/2010.10338v1, Figs. 4, 6 and 9, need more than the
core and the last edge: what the core got right before a distillation, the first edge's models over
all later rounds, and single members of the ensemble (Section 5.1).
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
    before           track: the core as it was before the last distillation
    first            track: the models of the edge that came first, together
    member1, ...     track: each of the models at the edge alone

  The tracked ones are zeros until the first models have come back.
  """

  def everyone(said):
    """[R, models, N, H, C] of [K_g, N, H, C]."""
    said = jax.lax.all_gather(said, "client", tiled=True)
    return said.reshape(env.R, -1, *said.shape[1:])

  def of_clients(state, images, g):
    one = lambda client: eval_mode(env.cohorts[g].model, client, images).logits
    return everyone(env.map_clients(one, state.clients[g]))

  def of_snapshots(flat, images, g):
    """flat f32[K_0, ..., L]."""

    def one(flat):
      client = snapshots.client(env, g, flat)
      return eval_mode(env.cohorts[g].model, client, images).logits

    return everyone(env.map_clients(one, flat.reshape(-1, flat.shape[-1])))

  def predict(state, images):
    edge = of_clients(state, images, -1)
    said = {"core": of_clients(state, images, 0)[:, 0], "edge": together(edge)}
    if track:
      core = state.local[0]
      said["before"] = of_snapshots(core.begun, images, 0)[:, 0]
      said["first"] = together(of_snapshots(core.first, images, -1))
      said |= {f"member{m + 1}": edge[:, m] for m in range(edge.shape[1])}
    return said

  return predict


def together(logits: Float[Array, "R n N H C"]) -> Float[Array, "R N H C"]:
  """The log of the models' mean probabilities."""
  return jax.nn.logsumexp(jax.nn.log_softmax(logits), axis=1) - np.log(logits.shape[1])
