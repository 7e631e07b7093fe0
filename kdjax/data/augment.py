"""Augmentation and normalisation of one image, on the device; callers vmap over examples.

An augmentation is `(key, image) -> image` for an image u8[h, w, c] or f32[h, w, c] in 0..255, and
stays in 0..255: `preprocess` normalises afterwards, so padding is black, not the mean.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from kdjax.plugins import call
from kdjax.types import ConfigError

LARGEST = 4096  # pixels of a side that a crop is resized to
TRIES = 10  # of a random crop that fits the image, before the largest centred one is taken
MARGIN = 7 / 8  # of the shorter side that evaluation keeps at most: the usual 224 of 256


def preprocess(image: jax.Array, *, mean: tuple[float, ...], std: tuple[float, ...]) -> jax.Array:
  """`(image / 255 - mean) / std`; image [h, w, c] in 0..255; mean, std: 1 or c numbers."""
  return (image / 255 - jnp.asarray(mean)) / jnp.asarray(std)


Augment = Callable[[jax.Array, jax.Array], jax.Array]  # (key, image) -> image


def none() -> Augment:
  """Leaves the image as it is."""
  return lambda key, image: image


def flip() -> Augment:
  """Mirrors left and right with probability 1/2."""
  return _mirror


def _mirror(key, image):
  return jnp.where(jax.random.bernoulli(key), image[:, ::-1], image)


def crop_flip(*, padding: int, flip: bool) -> Augment:
  """Pads `padding` black pixels on every side and crops the image's size; then maybe mirrors.

  Args:
    padding: pixels.
    flip: True: mirror with probability 1/2.
  """
  if padding < 0:
    raise ConfigError("augment.padding", padding, "whole pixels, 0 or more")

  def augment(key, image):
    crop_key, flip_key = jax.random.split(key)
    if padding >= min(image.shape[:2]):
      hint = f"below {min(image.shape[:2])}, the image's shorter side, or crops show nothing of it"
      raise ConfigError("augment.padding", padding, hint)
    padded = jnp.pad(image, ((padding, padding), (padding, padding), (0, 0)))
    top, left = jax.random.randint(crop_key, (2,), 0, 2 * padding + 1)
    crop = jax.lax.dynamic_slice(padded, (top, left, 0), image.shape)
    return _mirror(flip_key, crop) if flip else crop

  return augment


def crop_flip_cutout(*, padding: int, flip: bool, cutout: int, fill: tuple[float, ...]) -> Augment:
  """As `crop_flip`; then a square of one colour hides a part (DeVries & Taylor 2017).

  Its centre is uniform over the pixels, so it may reach over the border. f32[h, w, c].

  Args:
    padding, flip: as `crop_flip`'s.
    cutout: pixels, the square's side.
    fill: 1 or c numbers in 0..1, its colour; with the means of `normalise` it becomes zeros, as
      where the square is cut out of normalised images.
  """
  if cutout < 1:
    raise ConfigError("augment.cutout", cutout, "whole pixels, 1 or more")
  if not all(0 <= value <= 1 for value in fill):
    raise ConfigError("augment.fill", fill, "a colour of 1 or c numbers in 0..1")
  first = crop_flip(padding=padding, flip=flip)

  def augment(key, image):
    first_key, place_key = jax.random.split(key)
    h, w, c = image.shape
    if cutout >= 2 * max(h, w):
      hint = f"below {2 * max(h, w)}, twice the image's longer side, or it hides all of it"
      raise ConfigError("augment.cutout", cutout, hint)
    if len(fill) not in (1, c):
      raise ConfigError("augment.fill", fill, f"1 or {c} numbers, as the image has channels")
    top, left = jax.random.randint(place_key, (2,), 0, jnp.array([h, w])) - cutout // 2
    row, column = jnp.arange(h)[:, None] - top, jnp.arange(w) - left
    hidden = (row >= 0) & (row < cutout) & (column >= 0) & (column < cutout)
    colour = 255 * jnp.asarray(fill, jnp.float32)
    return jnp.where(hidden[..., None], colour, first(first_key, image).astype(jnp.float32))

  return augment


def resized_crop(
  *, size: int, scale: tuple[float, float], ratio: tuple[float, float], flip: bool
) -> Augment:
  """A random part of the image, resized; then maybe mirrored (Szegedy et al. 2015).

  Area and aspect ratio are drawn until the part fits, 10 times at most; then the largest centred
  part of an allowed ratio is taken. Bilinear, with antialiasing; f32[size, size, c]. At the part's
  border, pixels just outside it weigh in.

  Args:
    size: pixels of the square result.
    scale: (low, high) share of the image's area.
    ratio: (low, high) width over height, drawn log-uniformly.
    flip: True: mirror with probability 1/2.
  """
  if not 1 <= size <= LARGEST:
    raise ConfigError("augment.size", size, f"whole pixels, 1 to {LARGEST:,}")
  if not 0 < scale[0] <= scale[1] <= 1:
    raise ConfigError("augment.scale", scale, "(low, high) with 0 < low <= high <= 1")
  if not 0 < ratio[0] <= ratio[1]:
    raise ConfigError("augment.ratio", ratio, "(low, high) with 0 < low <= high")

  def augment(key, image):
    box_key, flip_key = jax.random.split(key)
    top, left, height, width = _box(box_key, *image.shape[:2], scale, ratio)
    zoom = jnp.stack([size / height, size / width])
    shift = -jnp.stack([top, left]) * zoom
    shape = (size, size, image.shape[2])
    image = image.astype(jnp.float32)
    out = jax.image.scale_and_translate(image, shape, (0, 1), zoom, shift, method="linear")
    return _mirror(flip_key, out) if flip else out

  return augment


def _box(key, h, w, scale, ratio):
  """(top, left, height, width), f32[], of a random part of an image h x w."""
  area_key, ratio_key, place_key = jax.random.split(key, 3)
  area = h * w * jax.random.uniform(area_key, (TRIES,), minval=scale[0], maxval=scale[1])
  low, high = jnp.log(ratio[0]), jnp.log(ratio[1])
  shape = jnp.exp(jax.random.uniform(ratio_key, (TRIES,), minval=low, maxval=high))
  height, width = jnp.sqrt(area / shape), jnp.sqrt(area * shape)
  fits = (height <= h) & (width <= w)
  first = jnp.argmax(fits)
  height = jnp.where(fits.any(), height[first], jnp.minimum(h, w / ratio[0]))
  width = jnp.where(fits.any(), width[first], jnp.minimum(w, h * ratio[1]))
  top, left = jnp.where(fits.any(), jax.random.uniform(place_key, (2,)), 0.5)
  return top * (h - height), left * (w - width), height, width


AUGMENT: dict[str, Callable[..., Augment]] = {
  "none": none,
  "flip": flip,
  "crop_flip": crop_flip,
  "crop_flip_cutout": crop_flip_cutout,
  "resized_crop": resized_crop,
}


def make(*, kind: str = "", **args: Any) -> Augment:
  """The augmentation `(key, image) -> image` of a kind in AUGMENT with exactly its arguments.

  Raises:
    ConfigError: an unknown kind, a missing or an unknown argument.
  """
  if not isinstance(kind, str) or kind not in AUGMENT:
    raise ConfigError("augment.kind", kind, f"one of {sorted(AUGMENT)}")
  return call(AUGMENT[kind], key="augment", arguments=args)


def centre(size: int) -> Callable[[jax.Array], jax.Array]:
  """The evaluation's `image -> image`: the central square, resized to [size, size, c].

  The square is `size` pixels wide where the image allows, at least 7/8 of the shorter side and at
  most all of it: 224 of 256 is a plain crop, 64 of 64 the image itself.
  """

  def crop(image):
    h, w, c = image.shape
    side = min(max(size, round(MARGIN * min(h, w))), min(h, w))
    top, left = (h - side) // 2, (w - side) // 2
    image = image[top : top + side, left : left + side]
    if side == size:
      return image
    return jax.image.resize(image.astype(jnp.float32), (size, size, c), "linear")

  return crop
