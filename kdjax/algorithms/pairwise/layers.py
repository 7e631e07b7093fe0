"""The layers of interest of pairwise transfer: named kernels, looked up and replaced.

A layer is named by its path in a model's parameters, such as 'heads/hidden'; where models of
different architectures call it differently, by a tuple of names: a model's is the first it has.
"""

from collections.abc import Sequence
from typing import Any

import jax

from kdjax.core.arrays import Array
from kdjax.core.env import Env
from kdjax.types import ConfigError, PyTree

Layer = str | tuple[str, ...]


def names(layer: Layer) -> tuple[str, ...]:
  """All names of a layer."""
  return (layer,) if isinstance(layer, str) else tuple(layer)


def key(layer: Layer) -> str:
  """The name under which a layer's map is kept: its first."""
  return names(layer)[0]


def named_kernels(params: PyTree) -> dict[str, Any]:
  """{path, such as 'heads/main': its kernel} of all layers that have one."""
  leaves = jax.tree_util.tree_leaves_with_path(params)
  paths = (([part.key for part in path], leaf) for path, leaf in leaves)
  return {"/".join(path[:-1]): leaf for path, leaf in paths if path[-1] == "kernel"}


def path(params: PyTree, layer: Layer) -> str:
  """What this model calls a layer of interest."""
  there = named_kernels(params)
  return next(name for name in names(layer) if name in there)


def kernels(params: PyTree, layers: Sequence[Layer]) -> dict[str, Any]:
  """{layer's key: its kernel in this model}."""
  there = named_kernels(params)
  return {key(layer): there[path(params, layer)] for layer in layers}


def replace(params: PyTree, new: dict[str, Array]) -> PyTree:
  """The same params with the kernels of {path: kernel} in the place of their own."""

  def pick(path, leaf):
    *layer, name = [part.key for part in path]
    return new.get("/".join(layer), leaf) if name == "kernel" else leaf

  return jax.tree_util.tree_map_with_path(pick, params)


def shapes(env: Env, layers: Sequence[Layer]) -> dict[str, tuple[int, ...]]:
  """{layer's key: shape of its kernel}, the same in every cohort.

  Raises:
    ConfigError: for a layer that a model lacks, or whose shape differs.
  """
  found: dict[str, tuple[int, ...]] = {}
  for g, cohort in enumerate(env.cohorts):
    there = {name: leaf.shape for name, leaf in named_kernels(cohort.template.params).items()}
    for layer in layers:
      here = next((name for name in names(layer) if name in there), None)
      if here is None:
        hint = f"client {cohort.ids[0]}, a {cohort.name}, has {', '.join(there)}"
        raise ConfigError("algo.layers", layer, hint)
      shape = found.setdefault(key(layer), there[here])
      if shape != there[here]:
        hint = f"alike in all models: it is {shape} in cohort 0, {there[here]} in {g}"
        raise ConfigError("algo.layers", layer, hint)
  return found
