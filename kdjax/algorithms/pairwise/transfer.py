"""Transfer maps: a target's layer rewritten from its own weights and those of its sources.

Goldstein, Kachuee, Shiell, Sarrafzadeh: Real-Time Decentralized Knowledge Transfer at the Edge,
2020, https://arxiv.org/abs/2011.05961, Eq. 2: W* = [W_a, W_b] M, the layers side by side along
their inputs. A kernel here ends in its n inputs and o outputs, [n, o] for a dense layer (the
paper's W transposed) or [k, k, n, o] for a convolution; maps act on the inputs alone.
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
from kdjax.core.copies import Sources
from kdjax.core.costs import forward_flops
from kdjax.core.env import Env

EXACT = jax.lax.Precision.HIGHEST  # [0; I] changes nothing on any accelerator


class Pipeline(NamedTuple):
  """The maps of one client, one a layer of interest."""

  fresh: Callable  # key -> (maps {layer: f32[...]}, the state of their optimiser)
  rewrite: Callable  # (params, maps, Sources) -> params with W* in the place of W_b
  tx: Any  # the maps' optimiser; None: they stay as they are


def learned(
  env: Env,
  layers: Sequence[interest.Layer],
  *,
  start: float,
  noise: float,
  tx: optax.GradientTransformation,
) -> Pipeline:
  """Maps f32[2n, n] that are trained.

  Args:
    env: Env.
    layers: of interest, see `layers.shapes`.
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
  """Random maps that stay as they are, for up to S sources beside each other: see `overwrite`."""
  shapes = interest.shapes(env, layers)

  def fresh(key):
    keys = zip(shapes.items(), jax.random.split(key, len(shapes)), strict=True)
    return {k: random(key, s[-2], S, dtype=env.dtype) for (k, s), key in keys}, ()

  return Pipeline(fresh, functools.partial(_rewrite, env, layers, overwrite), None)


def first(
  key: jax.Array, n: int, *, start: float, noise: float, dtype: str
) -> Float[Array, "{2*n} {n}"]:
  """The map f32[2n, n] that a transfer begins with: [a I; (1 - a) I], a = `start`.

  With a = 0 it leaves the target as it is, with 1/2 it takes the mean of source and target; `noise`
  is the standard deviation of normal noise on it.
  """
  eye = jnp.eye(n, dtype=dtype)
  map = jnp.concatenate([start * eye, (1 - start) * eye])
  return map + noise * jax.random.normal(key, map.shape, dtype) if noise else map


def combine(
  own: Float[Array, "... n o"],
  found: Float[Array, "S ... n o"],
  map: Float[Array, "2*n n"],
  valid: Bool[Array, " S"],
) -> Float[Array, "... n o"]:
  """W* = mean over sources of [W_a, W_b] M: Eq. 2 for any number of sources.

  Args:
    own: f32[..., n, o], the target's kernel.
    found: f32[S, ..., n, o], the sources'.
    map: f32[2n, n].
    valid: bool[S]; other sources do not count.

  Returns:
    f32[..., n, o]; exactly `own` where the map is [0; I], and without sources.
  """
  total = jnp.sum(jnp.where(_like(found, valid), found, 0), axis=0)
  both = jnp.concatenate([total / jnp.maximum(valid.sum(), 1), own], axis=-2)
  new = jnp.einsum("ji,...jo->...io", map, both, precision=EXACT)
  return jnp.where(valid.any(), new, own)


def random(key: jax.Array, n: int, S: int, *, dtype: str) -> Float[Array, "{(S+1)*n+1} {n}"]:
  """A map f32[(S + 1) n + 1, n] of numbers uniform in -1..1."""
  return jax.random.uniform(key, ((S + 1) * n + 1, n), dtype, -1)


def overwrite(
  own: Float[Array, "... n o"],
  found: Float[Array, "S ... n o"],
  map: Float[Array, "(S+1)*n+1 n"],
  valid: Bool[Array, " S"],
) -> Float[Array, "... n o"]:
  """The layer that the authors' code puts in the target's place.

  The sources, then the target, go through one linear layer as PyTorch draws it: weights and biases
  uniform within 1 / sqrt(its inputs).

  Args:
    own, found, valid: as `combine`'s.
    map: f32[(S + 1) n + 1, n], see `random`; the last row is the bias.

  Returns:
    f32[..., n, o]; `own` without sources.
  """
  rows = [*jnp.where(_like(found, valid), found, 0), own, jnp.ones_like(own[..., :1, :])]
  inputs = (jnp.sum(valid) + 1) * own.shape[-2]
  new = jnp.einsum("ji,...jo->...io", map, jnp.concatenate(rows, axis=-2), precision=EXACT)
  return jnp.where(valid.any(), new / jnp.sqrt(inputs.astype(own.dtype)), own)


def found_kernels(
  env: Env, layers: Sequence[interest.Layer], sources: Sources
) -> dict[str, Float[Array, "S ..."]]:
  """{layer: its kernels f32[S, ..., n, o] in one client's sources}."""
  read = lambda model, client: interest.kernels(client.params, layers)
  return jax.vmap(functools.partial(snapshots.apply, env, read))(sources.peer, sources.flat)


def _rewrite(env, layers, how, params, maps, sources):
  """`Pipeline.rewrite` by `combine` or `overwrite`."""
  found, own = found_kernels(env, layers, sources), interest.kernels(params, layers)
  new = {
    interest.path(params, layer): how(own[k], found[k], maps[k], sources.peer >= 0)
    for layer in layers
    for k in (interest.key(layer),)
  }
  return interest.replace(params, new)


def _like(x, valid):
  """valid [S] with as many axes as x [S, ...]."""
  return jnp.expand_dims(valid, range(1, x.ndim))


def transfers(
  env: Env, shapes: dict[str, tuple[int, ...]], peer: Int[np.ndarray, "clients S"], *, learned: bool
) -> dict[str, Any]:
  """Who learns from whom by transfer maps, and what a client's sources cost.

  A training pass counts three forward passes, itself and a gradient of twice its size; a source
  adds a forward pass of its model, and the maps of a client with sources three products.

  Args:
    env: Env.
    shapes: {layer: shape of its kernel [..., n, o]}, of the layers with maps.
    learned: whether maps are trained; those that are not cost nothing a batch.
    peer: i32[R*K, S], the sources, -1 for nobody.

  Returns:
    {'sources': over replicas and their clients, lists of clients; 'transfer': FLOPs of one batch
    for every client of the first replica, with its sources and without, and the snapshots that
    this replica's clients fetch in a round}.
  """
  sources = [[k % env.K for k in row if k >= 0] for row in peer.tolist()]
  by_cohort = [forward_flops(c.model, c.template, env.task.image, env.dtype) for c in env.cohorts]
  forward = env.training.batch * np.array(by_cohort)[snapshots.cohort_of(env)][: env.K]
  product = sum(4 * s[-2] * int(np.prod(s)) for s in shapes.values())  # 2 a multiply-add, 2n inputs
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
