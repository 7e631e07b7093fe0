"""The rolling pool of other clients' checkpoints, kept by the student.

Zhmoginov et al., CVPR 2023, Section 4.1: client i keeps N_P checkpoints, distils from a few of
them at each step, and every S_P steps one random slot is replaced by a fresh checkpoint of one of
its teachers. A snapshot is one flat vector, so that different architectures share one array.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Pool(NamedTuple):
  """The pools of one cohort's clients."""

  flat: Any  # f32[K_g, P, L], snapshots, padded to the longest
  peer: Any  # i32[K_g, P], whose snapshot it is; -1: the slot is empty
  born: Any  # i32[K_g, P], training batches that the peer had taken


def draw(key, peer, D):
  """D slots of one client's pool without replacement, uniformly among the filled ones.

  Args:
    key: the client's key for this step; consumed.
    peer: i32[P].
    D: teachers, at most P.

  Returns:
    (slot i32[D], valid bool[D]): `valid` is false where fewer than D slots are filled.
  """
  noise = jnp.where(peer >= 0, jax.random.gumbel(key, peer.shape), -jnp.inf)
  value, slot = jax.lax.top_k(noise, D)
  return slot, value > -jnp.inf


def replace(pool, slot, snapshot, peer, born):
  """Puts a fresh snapshot into one slot of every client's pool.

  Args:
    pool: Pool of one cohort.
    slot: i32[K_g].
    snapshot: f32[K_g, L].
    peer: i32[K_g]; a client with -1 keeps its pool as it is.
    born: i32[].

  Returns:
    Pool.
  """
  here = (jnp.arange(pool.peer.shape[1]) == slot[:, None]) & (peer >= 0)[:, None]  # [K_g, P]
  return Pool(
    flat=jnp.where(here[..., None], snapshot[:, None], pool.flat),
    peer=jnp.where(here, peer[:, None], pool.peer),
    born=jnp.where(here, born, pool.born),
  )
