"""The layers of interest of pairwise transfer: named kernels, looked up and replaced.

A layer is named by its path in a model's parameters, such as 'heads/hidden'. Where architectures
have different names for it, a tuple lists them, and the first one in a model counts.
"""

from collections.abc import Sequence
from typing import Any

import jax

from kdjax.core.arrays import Array
from kdjax.core.env import Env
from kdjax.types import ConfigError, PyTree

Layer = str | tuple[str, ...]


def names(layer: Layer) -> tuple[str, ...]:
  """The names of a layer in all architectures."""
  return (layer,) if isinstance(layer, str) else tuple(layer)


def key(layer: Layer) -> str:
  """The name under which a layer's map is kept: the first of its names."""
  return names(layer)[0]


def named_kernels(params: PyTree) -> dict[str, Any]:
  """{path of a layer, such as 'heads/main': its kernel}, for all layers with a kernel."""
  leaves = jax.tree_util.tree_leaves_with_path(params)
  paths = (([part.key for part in path], leaf) for path, leaf in leaves)
  return {"/".join(path[:-1]): leaf for path, leaf in paths if path[-1] == "kernel"}


def path(params: PyTree, layer: Layer) -> str:
  """The name of a layer of interest in this model."""
  by_path = named_kernels(params)
  return next(name for name in names(layer) if name in by_path)


def kernels(params: PyTree, layers: Sequence[Layer]) -> dict[str, Any]:
  """{layer's key: its kernel in this model}."""
  by_path = named_kernels(params)
  return {key(layer): by_path[path(params, layer)] for layer in layers}


def replace(params: PyTree, new: dict[str, Array]) -> PyTree:
  """The params with the kernels of `new`, {path: kernel}, in place of their own."""

  def pick(path, leaf):
    *layer, name = [part.key for part in path]
    return new.get("/".join(layer), leaf) if name == "kernel" else leaf

  return jax.tree_util.tree_map_with_path(pick, params)


def shapes(env: Env, layers: Sequence[Layer]) -> dict[str, tuple[int, ...]]:
  """{layer's key: shape of its kernel}, the same in every cohort.

  Raises:
    ConfigError: for a layer that a model lacks, or whose shape differs.
  """
  by_key: dict[str, tuple[int, ...]] = {}
  for g, cohort in enumerate(env.cohorts):
    by_path = {name: leaf.shape for name, leaf in named_kernels(cohort.template.params).items()}
    for layer in layers:
      own_path = next((name for name in names(layer) if name in by_path), None)
      if own_path is None:
        hint = f"client {cohort.ids[0]}, a {cohort.name}, has {', '.join(by_path)}"
        raise ConfigError("algo.layers", layer, hint)
      shape = by_key.setdefault(key(layer), by_path[own_path])
      if shape != by_path[own_path]:
        hint = f"alike in all models: it is {shape} in cohort 0, {by_path[own_path]} in {g}"
        raise ConfigError("algo.layers", layer, hint)
  return by_key
