"""When a model has learned enough in a visit and rests: a threshold, or convergence.

Lee, Yoo and Kwak, 2020, https://arxiv.org/abs/2010.10338v1, Algorithm 1, trains at the edge until a
"learning threshold" and distils until it "has converged", and gives neither a number. Here both are
judged by the mean loss of a pass over the data. A model that rests keeps its weights, statistics
and momentum until the visit ends; steps stay as many as they are.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Pace(NamedTuple):
  """How far the models of one cohort are in this visit; leaves [K_g]."""

  total: jax.Array  # f32, losses of this pass over the data, added up over examples
  seen: jax.Array  # f32, their examples
  before: jax.Array  # f32, the mean loss of the pass before
  rests: jax.Array  # bool


def start(like: jax.Array) -> Pace:
  """At the beginning of a visit; like f32[K_g]."""
  zero, most = jnp.zeros_like(like), jnp.finfo(like.dtype).max  # not infinite: states are saved
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
  """After a step.

  Args:
    pace: before it.
    loss: f32[K_g], the step's mean losses; ignored for models that rest.
    n: f32[K_g], its examples.
    ends_pass: bool[], whether it is the last of a pass over the data.
    threshold: a mean loss below this ends a model's visit.
    tolerance: so does one that is lower than the pass before's by less than this; 0: never.
  """
  n = jnp.where(pace.rests | ~jnp.isfinite(loss), 0, n)  # one that is not finite was not taken
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
  going = pace._replace(total=total, seen=seen)
  return jax.tree.map(lambda a, b: jnp.where(ends_pass, a, b), ended, going)
