"""Snapshots: whole models, weights and statistics, as flat vectors that travel between clients.

Padded to the longest, those of different architectures share one array; who made one says how to
read it.
"""

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.core import costs


def flatten(tree, length):
  """A pytree of floats as one vector f32[length], padded with zeros."""
  flat = jnp.concatenate([jnp.ravel(x) for x in jax.tree.leaves(tree)])
  return jnp.pad(flat, (0, length - flat.size))


def unflatten(flat, template):
  """The pytree that `flatten` made; `template` has its structure, shapes and dtypes."""
  leaves, tree = jax.tree.flatten(template)
  ends = np.cumsum([x.size for x in leaves])
  parts = [
    flat[end - x.size : end].reshape(x.shape).astype(x.dtype)
    for x, end in zip(leaves, ends, strict=True)
  ]
  return jax.tree.unflatten(tree, parts)


def length(env):
  """L: numbers in the longest snapshot."""
  return max(sum(x.size for x in jax.tree.leaves(s)) for s in env.snapshots())


def pack(env, clients):
  """Snapshots f32[K_g, L] of the clients of one cohort."""
  return jax.vmap(lambda c: flatten((c.params, c.model_state), length(env)))(clients)


def cohort_of(env):
  """The cohort of every client; i32[R*K]."""
  out = np.zeros(env.clients, np.int32)
  for g, cohort in enumerate(env.cohorts):
    out[list(cohort.ids)] = g
  return out


def nbytes(env):
  """Bytes of every client's snapshot, without padding; i64[R*K]."""
  return np.array([costs.nbytes(s) for s in env.snapshots()])[cohort_of(env)]
