"""Transfer maps: a target's layer rewritten from its own weights and those of its sources.

Goldstein, Kachuee, Shiell, Sarrafzadeh: Real-Time Decentralized Knowledge Transfer at the Edge,
2020, https://arxiv.org/abs/2011.05961, Eq. 2: W* = [W_a, W_b] M, the layers side by side along
their inputs. The last axes of a kernel are its n inputs and o outputs: [n, o] for a dense layer
(the paper's W transposed), [k, k, n, o] for a convolution. Maps act on the inputs alone.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Bool, Float, Int

from kdjax.algorithms.pairwise import layers as interest
from kdjax.core import snapshots
from kdjax.core.arrays import Array
from kdjax.core.clients import select_rows
from kdjax.core.copies import Sources
from kdjax.core.costs import forward_flops
from kdjax.core.env import Env

EXACT = jax.lax.Precision.HIGHEST  # so that [0; I] is the identity on every accelerator


class Pipeline(NamedTuple):
  """The maps of one client, one per layer of interest."""

  fresh: Callable  # key -> (maps {layer: f32[...]}, the state of their optimiser)
  rewrite: Callable  # (params, maps, Sources) -> params with W* in place of W_b
  tx: Any  # the maps' optimiser; None: maps are not trained


def learned(
  env: Env,
  layers: Sequence[interest.Layer],
  *,
  start: float,
  noise: float,
  tx: optax.GradientTransformation,
) -> Pipeline:
  """The Pipeline of maps f32[2n, n] that are trained.

  Args:
    env: Env.
    layers: the layers of interest, see `layers.shapes`.
    start, noise: see `first`.
    tx: optax.GradientTransformation without a learning rate.
  """
  shapes = interest.shapes(env, layers)

  def fresh(key):
    keys = zip(shapes.items(), jax.random.split(key, len(shapes)), strict=True)
    maps = {k: first(key, s[-2], start=start, noise=noise, dtype=env.dtype) for (k, s), key in keys}
    return maps, tx.init(maps)

  return Pipeline(fresh, functools.partial(_rewrite, env, layers, combine), tx)


def fixed(env: Env, layers: Sequence[interest.Layer], S: int) -> Pipeline:
  """The Pipeline of random maps that are not trained, for up to S sources: see `overwrite`."""
  shapes = interest.shapes(env, layers)

  def fresh(key):
    keys = zip(shapes.items(), jax.random.split(key, len(shapes)), strict=True)
    return {k: random(key, s[-2], S, dtype=env.dtype) for (k, s), key in keys}, ()

  return Pipeline(fresh, functools.partial(_rewrite, env, layers, overwrite), None)


def first(
  key: jax.Array, n: int, *, start: float, noise: float, dtype: str
) -> Float[Array, "{2*n} {n}"]:
  """The first map f32[2n, n] of a transfer: [a I; (1 - a) I], a = `start`.

  With a = 0 the target does not change, with 1/2 it becomes the mean of source and target. `noise`
  is the standard deviation of normal noise on the map.
  """
  eye = jnp.eye(n, dtype=dtype)
  map = jnp.concatenate([start * eye, (1 - start) * eye])
  return map + noise * jax.random.normal(key, map.shape, dtype) if noise else map


def combine(
  own: Float[Array, "... n o"],
  theirs: Float[Array, "S ... n o"],
  map: Float[Array, "2*n n"],
  valid: Bool[Array, " S"],
) -> Float[Array, "... n o"]:
  """W* = mean over sources of [W_a, W_b] M: Eq. 2 for any number of sources.

  Args:
    own: f32[..., n, o], the target's kernel.
    theirs: f32[S, ..., n, o], the sources' kernels.
    map: f32[2n, n].
    valid: bool[S]; other sources do not count.

  Returns:
    f32[..., n, o]; exactly `own` where the map is [0; I], and without sources.
  """
  total = jnp.sum(select_rows(valid, theirs, jnp.zeros_like(theirs)), axis=0)
  inputs = jnp.concatenate([total / jnp.maximum(valid.sum(), 1), own], axis=-2)
  new = jnp.einsum("ji,...jo->...io", map, inputs, precision=EXACT)
  return jnp.where(valid.any(), new, own)


def random(key: jax.Array, n: int, S: int, *, dtype: str) -> Float[Array, "{(S+1)*n+1} {n}"]:
  """A map f32[(S + 1) n + 1, n] of numbers uniform in -1..1."""
  return jax.random.uniform(key, ((S + 1) * n + 1, n), dtype, -1)


def overwrite(
  own: Float[Array, "... n o"],
  theirs: Float[Array, "S ... n o"],
  map: Float[Array, "(S+1)*n+1 n"],
  valid: Bool[Array, " S"],
) -> Float[Array, "... n o"]:
  """The layer by which the authors' code replaces the target's.

  The sources, then the target, go through one linear layer as PyTorch initialises it: weights and
  biases uniform within 1 / sqrt(number of inputs).

  Args:
    own, theirs, valid: as for `combine`.
    map: f32[(S + 1) n + 1, n], see `random`; its last row is the bias.

  Returns:
    f32[..., n, o]; `own` without sources.
  """
  sources = select_rows(valid, theirs, jnp.zeros_like(theirs))
  rows = [*sources, own, jnp.ones_like(own[..., :1, :])]
  count = (jnp.sum(valid) + 1) * own.shape[-2]
  new = jnp.einsum("ji,...jo->...io", map, jnp.concatenate(rows, axis=-2), precision=EXACT)
  return jnp.where(valid.any(), new / jnp.sqrt(count.astype(own.dtype)), own)


def source_kernels(
  env: Env, layers: Sequence[interest.Layer], sources: Sources
) -> dict[str, Float[Array, "S ..."]]:
  """{layer: its kernels f32[S, ..., n, o] in one client's sources}."""
  read = lambda model, client: interest.kernels(client.params, layers)
  return jax.vmap(functools.partial(snapshots.apply, env, read))(sources.peer, sources.flat)


def _rewrite(env, layers, how, params, maps, sources):
  """`Pipeline.rewrite` with `how`, which is `combine` or `overwrite`."""
  own = interest.kernels(params, layers)
  theirs = source_kernels(env, layers, sources)
  new = {}
  for layer in layers:
    k = interest.key(layer)
    new[interest.path(params, layer)] = how(own[k], theirs[k], maps[k], sources.peer >= 0)
  return interest.replace(params, new)


def transfers(
  env: Env, shapes: dict[str, tuple[int, ...]], peer: Int[np.ndarray, "clients S"], *, learned: bool
) -> dict[str, Any]:
  """`Algorithm.facts`: every client's sources, and their cost.

  A training pass counts as three forward passes: itself and a gradient of twice its cost. A source
  adds a forward pass of its model, and the maps of a client with sources add three products.

  Args:
    env: Env.
    shapes: {layer: shape of its kernel [..., n, o]}, for the layers with maps.
    peer: i32[R*K, S], the sources; -1: none.
    learned: whether maps are trained; maps that are not trained cost nothing per batch.

  Returns:
    {'sources': over replicas and their clients, lists of clients; 'transfer': FLOPs of one batch
    for every client of the first replica, with its sources and without, and the number of snapshots
    that this replica's clients fetch per round}.
  """
  sources = [[k % env.K for k in row if k >= 0] for row in peer.tolist()]
  by_cohort = [forward_flops(c.model, c.template, env.task.image, env.dtype) for c in env.cohorts]
  forward = env.training.batch * np.array(by_cohort)[snapshots.cohort_of(env)][: env.K]
  # A multiply-add is 2 FLOPs, and a map has 2n inputs.
  product = sum(4 * s[-2] * int(np.prod(s)) for s in shapes.values())
  maps = 3 * product if learned else 0
  added = [sum(forward[a] for a in row) + maps * bool(row) for row in sources[: env.K]]
  return {
    "sources": [sources[r * env.K : (r + 1) * env.K] for r in range(env.R)],
    "transfer": {
      "flops_per_batch": (3 * forward + added).tolist(),
      "flops_per_batch_without": (3 * forward).tolist(),
      "messages_per_round": sum(map(len, sources[: env.K])),
    },
  }
