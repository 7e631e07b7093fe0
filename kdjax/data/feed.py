"""From indices to images: what happens to a batch on its way into a step."""

import jax
import numpy as np

from kdjax.core.random import example_keys
from kdjax.types import Batch, Half


def by_cohort(halves, cohorts, part):
  """A Batch of per-cohort halves [K_g, ...] from halves [R*K, ...].

  Args:
    halves: {'private': Half, 'public': Half}, or fewer.
    cohorts: of Env.
    part: which cohorts take part, None: all; the others' halves are None.
  """

  def split(half):
    if half is None:
      return None
    mine = lambda c: jax.tree.map(lambda x: x[np.asarray(c.ids)], half)
    return tuple(mine(c) if part is None or g in part else None for g, c in enumerate(cohorts))

  return Batch(split(halves.get("private")), split(halves.get("public")))


def with_images(halves, sets, needed):
  """Reads the images of sets that are not resident, each example once.

  Args:
    halves: {'private': Half, 'public': Half}, leaves [R*K, size].
    sets: {half: ImageSet}.
    needed: size -> bool[R*K, size], which examples to read; the others' images are blank.
  """
  out = {}
  for name, half in halves.items():
    if sets[name].array is None:
      mine = needed(half.index.shape[1])
      unique, place = np.unique(half.index[mine], return_inverse=True)
      image = np.zeros((*half.index.shape, *sets[name].shape), np.uint8)
      image[mine] = sets[name].fetch(unique)[place]
      half = half._replace(image=image)
    out[name] = half
  return out


def materialise(env, phase, tables, batch, now, augment, preprocess):
  """Gathers, augments and normalises a device's share of a batch, inside the `shard_map`.

  Every draw is keyed by (seed, phase, step, client, place in the batch); a common public batch is
  augmented alike for all clients of a replica.

  Args:
    env: Env.
    phase: Phase.
    tables: {'private': u8[N, h, w, c], 'public': ...} of resident sets.
    batch: Batch of indices, or of u8 images where a set is not resident.
    now: Now.
    augment: (key, u8[h, w, c]) -> image.
    preprocess: image -> f32[h, w, c].

  Returns:
    Batch with `image` and `key` filled.
  """

  def fill(half, name, g):
    image = tables[name][half.index] if half.image is None else half.image
    keys = env.keys(g, f"{phase.name} {name} augment", now.count)
    if name == "public" and phase.feed.common:
      keys = env.common_keys(g, f"{phase.name} {name} augment", now.count)

    def one(key, images):
      images = jax.vmap(augment)(example_keys(key, len(images)), images)
      return jax.vmap(preprocess)(images).astype(env.dtype)

    return Half(
      image=jax.vmap(one)(keys, image),
      label=half.label,
      index=half.index,
      row=half.row,
      mask=half.mask,
      key=env.keys(g, f"{phase.name} {name} model", now.count),
    )

  def side(halves, name):
    return halves and tuple(h and fill(h, name, g) for g, h in enumerate(halves))

  return Batch(side(batch.private, "private"), side(batch.public, "public"), batch.server)
