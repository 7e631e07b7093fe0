"""Augmentations of one image against NumPy slices and plain resizes."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.data import augment
from kdjax.types import ConfigError

IMAGE = np.random.default_rng(0).integers(0, 256, (6, 5, 3), dtype=np.uint8)
SQUARE = np.random.default_rng(1).integers(0, 256, (8, 8, 3), dtype=np.uint8)
WHOLE = dict(kind="resized_crop", size=4, scale=(1, 1), ratio=(1, 1), flip=False)
PART = dict(kind="resized_crop", size=6, scale=(0.1, 0.9), ratio=(0.75, 4 / 3), flip=True)

CUTOUT = dict(kind="crop_flip_cutout", padding=3, flip=True, cutout=4, fill=(0.5,))


def many(image, n, **kind):
  """An augmentation of one image under n keys."""
  keys = jax.random.split(jax.random.key(0), n)
  return np.asarray(jax.jit(jax.vmap(augment.make(**kind), (0, None)))(keys, image))


def mirrored(image):
  return image[:, ::-1]


@pytest.mark.parametrize("mean, std", [((0.5,), (0.25,)), ((0.1, 0.2, 0.3), (0.5, 1, 2))])
def test_preprocess_by_hand(mean, std):
  right = (IMAGE / 255.0 - np.array(mean)) / np.array(std)
  for image in (IMAGE, IMAGE.astype(np.float32)):
    out = augment.preprocess(jnp.asarray(image), mean=mean, std=std)
    np.testing.assert_allclose(out, right, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", [dict(kind="none"), dict(kind="crop_flip", padding=0, flip=False)])
def test_augmentations_that_change_nothing(kind):
  out = many(IMAGE, 3, **kind)
  assert out.dtype == np.uint8
  np.testing.assert_array_equal(out, np.stack([IMAGE] * 3))


@pytest.mark.parametrize("kind", [dict(kind="flip"), dict(kind="crop_flip", padding=0, flip=True)])
def test_flip_mirrors_half_of_the_images(kind):
  out = many(IMAGE, 400, **kind)
  same = (out == IMAGE).all((1, 2, 3))
  np.testing.assert_array_equal(out[~same], np.stack([mirrored(IMAGE)] * (~same).sum()))
  assert abs(same.sum() - 200) < 4 * 10


def test_crop_is_a_slice_of_the_padded_image_and_every_offset_occurs():
  padded = np.pad(IMAGE, ((2, 2), (2, 2), (0, 0)))
  slices = {padded[t : t + 6, l : l + 5].tobytes(): (t, l) for t in range(5) for l in range(5)}
  found = [slices[x.tobytes()] for x in many(IMAGE, 500, kind="crop_flip", padding=2, flip=False)]
  counts = np.zeros((5, 5))
  np.add.at(counts, tuple(np.array(found).T), 1)
  assert counts.min() > 0 and counts.max() < 20 + 5 * np.sqrt(20)


def test_cutout_hides_a_square_around_any_pixel_clipped_at_the_border():
  white = np.full((6, 5, 1), 255, np.uint8)
  kind = dict(kind="crop_flip_cutout", padding=0, flip=False, cutout=4, fill=(0.2,))
  out = many(white, 600, **kind)
  assert out.dtype == np.float32
  right = {}
  for y in range(6):
    for x in range(5):  # rows y - 2 to y + 1 and columns x - 2 to x + 1, where there are any
      square = np.full((6, 5, 1), 255, np.float32)
      square[max(y - 2, 0) : y + 2, max(x - 2, 0) : x + 2] = 255 * np.float32(0.2)
      right[square.tobytes()] = (y, x)
  assert len(right) == 30
  counts = np.zeros((6, 5))
  np.add.at(counts, tuple(np.array([right[image.tobytes()] for image in out]).T), 1)
  assert counts.min() > 0 and counts.max() < 20 + 5 * np.sqrt(20)


def test_cutout_leaves_the_rest_to_crop_and_flip_and_becomes_zeros_when_normalised():
  settings, mean, std = dict(padding=2, flip=True), (0.1, 0.5, 0.9), (0.2, 0.3, 0.4)
  out = many(IMAGE, 200, kind="crop_flip_cutout", cutout=3, fill=mean, **settings)
  hidden = np.isclose(out, 255 * np.array(mean)).all(-1)
  sizes = hidden.sum((1, 2))
  assert set(sizes) == {4, 6, 9}  # at a corner, at an edge, inside
  padded = np.pad(IMAGE, ((2, 2), (2, 2), (0, 0)))
  crops = [padded[t : t + 6, l : l + 5] for t in range(5) for l in range(5)]
  crops = np.stack(crops + [mirrored(crop) for crop in crops])
  for image, mask in zip(out, hidden, strict=True):
    assert ((crops == image) | mask[..., None]).all((1, 2, 3)).any()
  normalised = augment.preprocess(out, mean=mean, std=std)
  np.testing.assert_allclose(normalised[hidden], 0, atol=1e-6)


def test_cutouts_colour_has_as_many_channels_as_the_image():
  with pytest.raises(ConfigError, match="augment.fill .* 1 or 3 numbers"):
    many(IMAGE, 1, **(CUTOUT | dict(fill=(0.1, 0.2))))


def test_the_whole_image_resized_is_a_plain_resize():
  right = jax.image.resize(SQUARE.astype(np.float32), (4, 4, 3), "linear")
  out = many(SQUARE, 3, **WHOLE)
  np.testing.assert_allclose(out, np.stack([right] * 3), atol=1e-3)


def test_a_part_is_a_window_that_lies_anywhere_in_the_image():
  # A gradient image, value = column, tells where the part lies and how wide it is.
  ramp = np.tile(np.arange(64, dtype=np.uint8)[None, :, None], (64, 1, 1))
  out = many(ramp, 200, kind="resized_crop", size=16, scale=(0.25, 0.25), ratio=(1, 1), flip=False)
  np.testing.assert_allclose(np.diff(out[:, 0, 1:-1, 0]), 2, atol=1e-3)  # 32 columns on 16 pixels
  left = out[:, 0, 1, 0] - 2.5  # the first pixel's centre is column left + 0.5
  assert left.min() >= -0.01 and left.max() <= 32.01
  assert left.min() < 2 and left.max() > 30 and abs(left.mean() - 16) < 4 * 9.3 / np.sqrt(200)


def test_a_part_has_the_drawn_area_and_ratio():
  keys = jax.random.split(jax.random.key(0), 500)
  one = lambda key: augment._box(key, 40, 60, (0.1, 0.6), (0.5, 2.0))
  box = jax.jit(jax.vmap(one))(keys)
  top, left, height, width = map(np.asarray, box)
  assert top.min() >= 0 and left.min() >= 0
  assert (top + height).max() <= 40.001 and (left + width).max() <= 60.001
  area, ratio = height * width / 2400, width / height
  assert area.min() > 0.0999 and area.max() < 0.6001 and np.ptp(area) > 0.4
  assert ratio.min() > 0.4999 and ratio.max() < 2.0001 and np.ptp(ratio) > 1.2


def test_a_part_that_never_fits_is_the_largest_centred_one():
  box = augment._box(jax.random.key(0), 40, 60, (1.0, 1.0), (1.0, 1.0))
  np.testing.assert_allclose(box, [0, 10, 40, 40], atol=1e-4)
  box = augment._box(jax.random.key(0), 40, 200, (1.0, 1.0), (0.5, 2.0))
  np.testing.assert_allclose(box, [0, 60, 40, 80], atol=1e-4)


def test_parts_stay_in_range_and_differ():
  out = many(SQUARE, 50, **PART)
  assert out.dtype == np.float32 and out.shape == (50, 6, 6, 3)
  assert out.min() >= 0 and out.max() <= 255.001
  assert len(np.unique(out.reshape(50, -1), axis=0)) == 50


@pytest.mark.parametrize("kind", [PART, dict(kind="crop_flip", padding=3, flip=True), CUTOUT])
def test_one_key_is_one_augmentation_alone_or_in_a_batch(kind):
  fn = augment.make(**kind)
  keys = jax.random.split(jax.random.key(0), 3)
  batch = jax.jit(jax.vmap(fn, (0, None)))
  out = batch(keys, SQUARE)
  np.testing.assert_array_equal(out, batch(keys, SQUARE))
  np.testing.assert_allclose(jax.jit(fn)(keys[2], SQUARE), out[2], atol=1e-3)


def test_evaluation_takes_the_centre():
  tall = np.random.default_rng(2).integers(0, 256, (10, 8, 1), dtype=np.uint8)
  np.testing.assert_array_equal(augment.centre(8)(tall), tall[1:9])  # 7 would be 7/8 of 8
  np.testing.assert_array_equal(augment.centre(7)(tall), tall[1:8, :7])
  right = jax.image.resize(tall[1:8, :7].astype(np.float32), (3, 3, 1), "linear")
  np.testing.assert_allclose(augment.centre(3)(tall), right, atol=1e-4)
  right = jax.image.resize(tall[1:9].astype(np.float32), (16, 16, 1), "linear")
  np.testing.assert_allclose(augment.centre(16)(tall), right, atol=1e-4)
  big = jnp.zeros((256, 300, 3), jnp.uint8).at[16:240, 38:262].set(1)
  chex.assert_trees_all_equal(augment.centre(224)(big), jnp.ones((224, 224, 3), jnp.uint8))


@pytest.mark.parametrize(
  "kind, message",
  [
    (dict(kind="mixup"), "augment.kind = 'mixup': one of"),
    (dict(kind="none", padding=4), "augment.padding = 4: unknown: .* takes no arguments"),
    (dict(kind="crop_flip", padding=4), "missing: flip; .* takes padding, flip"),
    (dict(kind="crop_flip", padding=-1, flip=True), "augment.padding = -1"),
    (CUTOUT | dict(padding=1.5), "augment.padding = 1.5"),
    (CUTOUT | dict(cutout=0), "augment.cutout = 0"),
    (CUTOUT | dict(fill=(0.5, 128)), r"augment.fill = \(0.5, 128\)"),
    (PART | dict(size=0), "augment.size = 0"),
    (PART | dict(scale=(0.0, 1.0)), "augment.scale"),
    (PART | dict(ratio=(2.0, 1.0)), "augment.ratio"),
  ],
)
def test_bad_settings_are_refused(kind, message):
  with pytest.raises(ConfigError, match=message):
    augment.make(**kind)
