"""Snapshots: whole models, weights and statistics, as flat vectors that travel between clients.

Snapshots are padded to the longest one, so those of different architectures share one array. The
client that a snapshot is of determines how to read it.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from kdjax.core import costs, hosts
from kdjax.core.arrays import Array
from kdjax.core.env import Env
from kdjax.types import ClientState, PyTree


def flatten(tree: PyTree, length: int) -> Float[Array, " L"]:
  """A pytree of floats as one vector f32[length], padded with zeros."""
  flat = jnp.concatenate([jnp.ravel(x) for x in jax.tree.leaves(tree)])
  return jnp.pad(flat, (0, length - flat.size))


def unflatten(flat: Float[Array, " L"], template: PyTree) -> PyTree:
  """The inverse of `flatten`; `template` has the pytree's structure, shapes and dtypes.

  The barrier keeps a compiler from reshaping the whole vector before it takes a leaf out of it. To
  reach a classifier of two classes, a TPU's compiler made f32[L] an f32[L / 2, 2], which it pads to
  128 columns.
  """
  leaves, tree = jax.tree.flatten(template)
  ends = np.cumsum([x.size for x in leaves])
  slices = [flat[end - x.size : end] for x, end in zip(leaves, ends, strict=True)]
  slices = jax.lax.optimization_barrier(slices)
  parts = [part.reshape(x.shape).astype(x.dtype) for part, x in zip(slices, leaves, strict=True)]
  return jax.tree.unflatten(tree, parts)


def client(env: Env, g: int, flat: Float[Array, " L"]) -> ClientState:
  """The client, of cohort g of the ensemble, in a snapshot f32[L]; without an optimiser state."""
  params, model_state = unflatten(flat, env.snapshots()[g])
  return ClientState(params, model_state, opt_state=())


def apply(
  env: Env,
  fn: Callable,
  peer: Int[Array, ""],
  flat: Float[Array, " L"],
  *args: PyTree,
  nobody: Callable | None = None,
) -> PyTree:
  """`fn(model, client, *args)` for the client in a snapshot, with the model of its architecture.

  Args:
    env: Env.
    fn: a function whose outputs have the same shapes for every model.
    peer: i32[], the client that the snapshot is of; -1: none.
    flat: f32[L].
    args: further arguments of `fn`.
    nobody: (*args) -> the result where the peer is -1; None: the result there is arbitrary.
  """

  def of_cohort(g, flat, *args):
    return fn(env.ensemble[g].model, client(env, g, flat), *args)

  branches: list[Callable] = [functools.partial(of_cohort, g) for g in range(len(env.ensemble))]
  branch = jnp.asarray(cohort_of(env))[peer]
  if nobody is not None:
    branches = [lambda flat, *args: nobody(*args), *branches]
    branch = jnp.where(peer < 0, 0, 1 + branch)
  return jax.lax.switch(branch, branches, flat, *args)


def length(env: Env) -> int:
  """L: the length of the longest snapshot."""
  return int(sizes(env).max())


def pack(env: Env, clients: ClientState) -> Float[Array, "K_g L"]:
  """Snapshots f32[K_g, L] of the clients of one cohort."""
  return jax.vmap(lambda c: flatten((c.params, c.model_state), length(env)))(clients)


def cohort_of(env: Env) -> Int[np.ndarray, " clients"]:
  """The cohort of every client; i32[R*K]."""
  out = np.zeros(env.clients, np.int32)
  for g, cohort in enumerate(env.ensemble):
    out[list(cohort.ids)] = g
  return out


def on_host(env: Env, clients: tuple[ClientState, ...]) -> dict[int, np.ndarray]:
  """{client: its snapshot without padding} for the clients of `env.cohorts`."""
  out = {}
  for cohort, client in zip(env.cohorts, clients, strict=True):
    leaves = jax.tree.leaves(hosts.fetch((client.params, client.model_state)))
    for place, k in enumerate(cohort.ids):
      out[k] = np.concatenate([np.ravel(x[place]) for x in leaves]).astype(env.dtype)
  return out


def sizes(env: Env) -> Int[np.ndarray, " clients"]:
  """The length of every client's snapshot without padding; i64[R*K]."""
  return np.array([sum(x.size for x in jax.tree.leaves(s)) for s in env.snapshots()])[
    cohort_of(env)
  ]


def nbytes(env: Env) -> Int[np.ndarray, " clients"]:
  """Bytes of every client's snapshot without padding; i64[R*K]."""
  return np.array([costs.nbytes(s) for s in env.snapshots()])[cohort_of(env)]
