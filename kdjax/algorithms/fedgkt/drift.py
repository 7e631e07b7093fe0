"""The drift between the extractors of clients that learn from different data."""

import functools

import jax
import jax.numpy as jnp
from jax.extend.core import Literal
from jaxtyping import Float

from kdjax.algorithms.fedgkt.uploads import tell
from kdjax.core.arrays import Array
from kdjax.core.env import Env
from kdjax.types import Cohort, Step


def step(env: Env, cut: str) -> Step:
  """`Phase.step` that measures the drift: each client's distance from the mean, see `distances`."""
  extractors = [extractor(env, cohort, cut) for cohort in env.cohorts]

  def step(state, batch, now):
    aux = []
    for g, (client, needed) in enumerate(zip(state.clients, extractors, strict=True)):
      leaves = zip(jax.tree.leaves(client.params), needed, strict=True)
      weights = [x for x, is_needed in leaves if is_needed]
      aux.append({"drift": distances(env, g, weights)})
    return state, tuple(aux)

  return step


def distances(env: Env, g: int, weights: list[jax.Array]) -> Float[Array, " K_g"]:
  """|w_k - w| / |w| of every client of cohort g, where w is the mean over those of its replica.

  Args:
    env: Env.
    g: the cohort's index.
    weights: leaves [K_g, ...].
  """
  replica = env.ids(g) // env.K
  n = len(env.cohorts[g].ids) // env.R
  off = norm = jnp.zeros(replica.shape, env.dtype)
  for x in weights:
    total = jnp.zeros((env.R, *x.shape[1:]), x.dtype).at[replica].add(x)
    mean = (jax.lax.psum(total, "client") / n)[replica]
    square = lambda x: (x**2).reshape(len(x), -1).sum(1).astype(env.dtype)
    off, norm = off + square(x - mean), norm + square(mean)
  return jnp.sqrt(off / jnp.maximum(norm, jnp.finfo(norm.dtype).tiny))


def extractor(env: Env, cohort: Cohort, cut: str) -> list[bool]:
  """Whether the feature at the cut depends on each of a model's parameters, in order of leaves."""
  images = jax.ShapeDtypeStruct((1, *env.task.image), env.dtype)
  upload = functools.partial(tell, cohort.model, cut)
  feature = lambda params, client, images: upload(client._replace(params=params), images)[0]
  params = cohort.template.params
  program = jax.make_jaxpr(feature)(params, cohort.template, images).jaxpr
  needed = _needed(program)
  return [v in needed for v in program.invars[: len(jax.tree.leaves(params))]]


def _needed(program) -> set:
  """The variables of a jaxpr that its results depend on."""
  needed = {v for v in program.outvars if not isinstance(v, Literal)}
  for equation in reversed(program.eqns):
    if needed.intersection(equation.outvars):
      needed |= {v for v in equation.invars if not isinstance(v, Literal)}
  return needed
