"""What a model sees of an example: in training, augmented; and at test time."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from kdjax.data import augment
from kdjax.data.example_set import is_table
from kdjax.types import ConfigError


class Views(NamedTuple):
  """Functions of one example; callers vmap over many."""

  augment: Callable[[jax.Array, jax.Array], jax.Array]  # (key, u8[h, w, c] or f32[F]) -> the same
  preprocess: Callable[[jax.Array], jax.Array]  # what comes out of it -> f32, normalised
  view: Callable[[jax.Array], jax.Array]  # an example -> f32: what a model sees at test time
  shape: tuple[int, ...]  # of what it sees


def views(config: dict[str, Any], shape: tuple[int, ...]) -> Views:
  """The views of examples of a shape.

  Args:
    config: its `augment` and `normalise`; mean and std are those of pixels in 0..1, or of features
      as they are.
    shape: (h, w, c) of images or (F,) of a table's rows.

  Raises:
    ConfigError: an augmentation that is none, or one of a table.
  """
  augmentation = augment.make(**config["augment"])
  mean, std = (tuple(config["normalise"][key]) for key in ("mean", "std"))
  if is_table(shape):
    if config["augment"]["kind"] != "none":
      hint = "'none': a table's features are no pixels"
      raise ConfigError("augment.kind", config["augment"]["kind"], hint)
    preprocess = functools.partial(standardise, mean=mean, std=std)
    return Views(augmentation, preprocess, preprocess, shape)
  preprocess = functools.partial(augment.preprocess, mean=mean, std=std)
  image = jax.ShapeDtypeStruct(shape, jnp.uint8)
  seen = jax.eval_shape(lambda x: augmentation(jax.random.key(0), x), image).shape
  if seen == shape:
    return Views(augmentation, preprocess, preprocess, shape)
  centre = augment.centre(seen[0])
  return Views(augmentation, preprocess, lambda x: preprocess(centre(x)), tuple(seen))


def standardise(
  features: jax.Array, *, mean: tuple[float, ...], std: tuple[float, ...]
) -> jax.Array:
  """`(features - mean) / std`; features [F]; mean, std: 1 or F numbers."""
  return (features - jnp.asarray(mean)) / jnp.asarray(std)
