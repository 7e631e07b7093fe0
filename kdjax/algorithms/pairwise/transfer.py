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

from kdjax.core import snapshots
from kdjax.core.arrays import Array
from kdjax.core.costs import forward_flops
from kdjax.core.env import Env
from kdjax.types import ConfigError, PyTree

EXACT = jax.lax.Precision.HIGHEST  # [0; I] changes nothing on any accelerator


class Pipeline(NamedTuple):
  """The maps of one client, for all layers of interest."""

  fresh: Callable  # key -> (maps {layer: f32[...]}, the state of their optimiser)
  rewrite: Callable  # (params, maps, Sources) -> params with W* in the place of W_b
  tx: Any  # the maps' optimiser; None: they stay as they are


def learned(
  env: Env,
  shapes: dict[str, tuple[int, ...]],
  S: int,
  *,
  noise: float,
  tx: optax.GradientTransformation,
) -> Pipeline:
  """Maps that are trained, one f32[2n, n] for each of S sources.

  Args:
    env: Env.
    shapes: {layer: shape of its kernel}, see `layer_shapes`.
    S: the most sources that a client has.
    noise: standard deviation of normal noise on the first [0; I].
    tx: optax.GradientTransformation without a learning rate.
  """

  def fresh(key):
    keys = zip(shapes.items(), jax.random.split(key, len(shapes)), strict=True)
    maps = {k: no_op(key, s[-2], S, noise=noise, dtype=env.dtype) for (k, s), key in keys}
    return maps, tx.init(maps)

  return Pipeline(fresh, functools.partial(_rewrite, env, shapes, combine), tx)


def fixed(env: Env, shapes: dict[str, tuple[int, ...]], S: int) -> Pipeline:
  """Random maps that stay as they are, one for all sources together: see `overwrite`."""

  def fresh(key):
    keys = zip(shapes.items(), jax.random.split(key, len(shapes)), strict=True)
    return {k: random(key, s[-2], S, dtype=env.dtype) for (k, s), key in keys}, ()

  return Pipeline(fresh, functools.partial(_rewrite, env, shapes, overwrite), None)


def no_op(
  key: jax.Array, n: int, S: int, *, noise: float, dtype: str
) -> Float[Array, "{S} {2*n} {n}"]:
  """S maps f32[S, 2n, n] that leave the target as it is, but for normal noise of that std."""
  maps = jnp.broadcast_to(jnp.eye(2 * n, n, -n, dtype), (S, 2 * n, n))
  return maps + noise * jax.random.normal(key, maps.shape, dtype) if noise else maps


def combine(
  own: Float[Array, "... n o"],
  found: Float[Array, "S ... n o"],
  maps: Float[Array, "S 2*n n"],
  valid: Bool[Array, " S"],
) -> Float[Array, "... n o"]:
  """W* = W_b + sum_a ([W_a, W_b] M_a - W_b): Eq. 2 for any number of sources.

  Args:
    own: f32[..., n, o], the target's kernel.
    found: f32[S, ..., n, o], the sources'.
    maps: f32[S, 2n, n].
    valid: bool[S]; other sources change nothing.

  Returns:
    f32[..., n, o]; exactly `own` where all maps are [0; I].
  """
  both = jnp.concatenate([found, jnp.broadcast_to(own, found.shape)], axis=-2)
  new = jnp.einsum("sji,s...jo->s...io", maps, both, precision=EXACT)
  return own + jnp.sum(jnp.where(_like(new, valid), new - own, 0), axis=0)


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


def layer_shapes(env: Env, layers: Sequence[str]) -> dict[str, tuple[int, ...]]:
  """{layer: shape of its kernel}, the same in every cohort.

  Raises:
    ConfigError: for a layer that a model lacks, or whose shape differs.
  """
  shapes: dict[str, tuple[int, ...]] = {}
  for g, cohort in enumerate(env.cohorts):
    there = {name: leaf.shape for name, leaf in named_kernels(cohort.template.params).items()}
    for layer in layers:
      if layer not in there:
        hint = f"client {cohort.ids[0]}, a {cohort.name}, has {', '.join(there)}"
        raise ConfigError("algo.layers", layer, hint)
      if shapes.setdefault(layer, there[layer]) != there[layer]:
        hint = f"alike in all models: it is {shapes[layer]} in cohort 0, {there[layer]} in {g}"
        raise ConfigError("algo.layers", layer, hint)
  if not shapes:
    raise ConfigError("algo.layers", layers, "name at least one layer")
  return shapes


def named_kernels(params: PyTree) -> dict[str, Any]:
  """{path, such as 'heads/main': its kernel} of all layers that have one."""
  leaves = jax.tree_util.tree_leaves_with_path(params)
  paths = (([part.key for part in path], leaf) for path, leaf in leaves)
  return {"/".join(path[:-1]): leaf for path, leaf in paths if path[-1] == "kernel"}


def replace(params: PyTree, kernels: dict[str, Array]) -> PyTree:
  """The same params with the kernels of {path: kernel} in the place of their own."""

  def pick(path, leaf):
    *layer, name = [part.key for part in path]
    return kernels.get("/".join(layer), leaf) if name == "kernel" else leaf

  return jax.tree_util.tree_map_with_path(pick, params)


def _rewrite(env, shapes, how, params, maps, sources):
  """`Pipeline.rewrite` by `combine` or `overwrite`."""

  def kernels(flat, g):
    there = named_kernels(snapshots.unflatten(flat, env.snapshots()[g])[0])
    return {layer: there[layer] for layer in shapes}

  branches = [functools.partial(kernels, g=g) for g in range(len(env.cohorts))]
  whose = jnp.asarray(snapshots.cohort_of(env))[sources.peer]  # of no account for nobody's
  found = jax.vmap(lambda g, flat: jax.lax.switch(g, branches, flat))(whose, sources.flat)
  own = named_kernels(params)
  new = {k: how(own[k], found[k], maps[k], sources.peer >= 0) for k in shapes}
  return replace(params, new)


def _like(x, valid):
  """valid [S] with as many axes as x [S, ...]."""
  return jnp.expand_dims(valid, range(1, x.ndim))


def transfers(
  env: Env, shapes: dict[str, tuple[int, ...]], peer: Int[np.ndarray, "clients S"], *, learned: bool
) -> dict[str, Any]:
  """Who learns from whom by transfer maps, and what each of a client's sources costs.

  A training pass counts three forward passes, itself and a gradient of twice its size; a source
  adds a forward pass of its model, and a map's three products.

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
  added = [sum(forward[a] + maps for a in row) for row in sources[: env.K]]
  return {
    "sources": [sources[r * env.K : (r + 1) * env.K] for r in range(env.R)],
    "transfer": {
      "flops_per_batch": (3 * forward + added).tolist(),
      "flops_per_batch_without": (3 * forward).tolist(),
      "messages_per_round": sum(map(len, sources[: env.K])),
    },
  }
