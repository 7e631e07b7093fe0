"""Early rest within a visit, by a threshold or by convergence.

Lee, Yoo and Kwak, 2020, https://arxiv.org/abs/2010.10338v1, Algorithm 1, trains at the edge until a
"learning threshold" and distils until it "has converged", and gives a number for neither. Here both
are judged by the mean loss of a pass over the data. A model that rests keeps its weights,
statistics and momentum until the visit ends. The number of steps does not change.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Pace(NamedTuple):
  """The progress of one cohort's models within this visit; leaves [K_g]."""

  total: jax.Array  # f32, losses of this pass over the data, summed over examples
  seen: jax.Array  # f32, the number of these examples
  before: jax.Array  # f32, the mean loss of the pass before
  rests: jax.Array  # bool


def start(like: jax.Array) -> Pace:
  """The Pace at the beginning of a visit, with leaves of the shape and dtype of `like` f32[K_g]."""
  zero = jnp.zeros_like(like)
  most = jnp.finfo(like.dtype).max  # not infinity, as saved states must be finite
  return Pace(zero, zero, jnp.full_like(like, most), zero.astype(bool))


def after(
  pace: Pace,
  loss: jax.Array,
  n: jax.Array,
  ends_pass: jax.Array,
  *,
  threshold: float,
  tolerance: float,
) -> Pace:
  """The Pace after a step.

  Args:
    pace: before the step.
    loss: f32[K_g], the step's mean losses; ignored for models that rest.
    n: f32[K_g], the step's examples.
    ends_pass: bool[] or bool[K_g], whether the step is the last of a pass over the data.
    threshold: a model rests once its mean loss over a pass is below this.
    tolerance: a model also rests once that loss improves by less than this on the pass before;
      0: never.
  """
  n = jnp.where(pace.rests | ~jnp.isfinite(loss), 0, n)  # a step that is not finite was skipped
  total = pace.total + jnp.where(n > 0, n * loss, 0)
  seen = pace.seen + n
  mean = total / jnp.maximum(seen, 1)
  enough = mean < threshold
  if tolerance:
    enough |= pace.before - mean < tolerance
  ended = pace._replace(
    total=jnp.zeros_like(total),
    seen=jnp.zeros_like(seen),
    before=jnp.where(seen > 0, mean, pace.before),
    rests=pace.rests | (enough & (seen > 0)),
  )
  continued = pace._replace(total=total, seen=seen)
  return jax.tree.map(lambda e, c: jnp.where(ends_pass, e, c), ended, continued)
