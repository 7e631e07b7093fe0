"""From indices to images: what happens to a batch on its way into a step."""

from collections.abc import Callable

import jax
import numpy as np

from kdjax.core.env import Env
from kdjax.core.random import example_keys
from kdjax.data.example_set import ExampleSet, ReadParts
from kdjax.types import Batch, Cohort, Drawn, Examples, Now, Phase


def by_cohort(
  halves: dict[str, Drawn], cohorts: tuple[Cohort, ...], part: tuple[int, ...] | None
) -> Batch:
  """A Batch of per-cohort halves [K_g, ...] from halves [R*K, ...].

  Args:
    halves: {'private': Drawn, 'public': Drawn}, or fewer.
    cohorts: of Env.
    part: which cohorts take part, None: all; the others' halves are None.
  """

  def split(half):
    if half is None:
      return None
    own = lambda c: jax.tree.map(lambda x: _rows(x, c.ids), half)
    return tuple(own(c) if part is None or g in part else None for g, c in enumerate(cohorts))

  return Batch(split(halves.get("private")), split(halves.get("public")))


def _rows(x, ids):
  """x[ids], without a copy where they follow each other: a batch of images is large."""
  first, last = ids[0], ids[-1]
  return x[first : last + 1] if len(ids) == last - first + 1 else x[np.asarray(ids)]


def read_now(fetch: Callable[[str, np.ndarray], np.ndarray]) -> ReadParts:
  """A `read` for `with_images` that reads everything when it is asked; `fetch` is a run's."""
  return lambda name, index: [fetch(name, index)]


def with_images(
  halves: dict[str, Drawn],
  sets: dict[str, ExampleSet],
  needed: Callable[[int], np.ndarray],
  read: ReadParts,
) -> dict[str, Drawn]:
  """Reads the images of sets that are not resident, each example once, whoever shares it.

  Args:
    halves: {'private': Drawn, 'public': Drawn}, leaves [R*K, size].
    sets: {half: ExampleSet}.
    needed: size -> bool[R*K, size], which examples to read; the others' images are blank.
    read: (half's name, indices i64[n], ascending) -> their examples, [.., *shape] in parts.
  """
  out = {}
  for name, half in halves.items():
    if sets[name].array is None:
      own = np.flatnonzero(needed(half.index.shape[1]))
      unique, first, which = np.unique(
        half.index.reshape(-1)[own], return_index=True, return_inverse=True
      )
      image = np.zeros((half.index.size, *sets[name].shape), sets[name].dtype)
      done = 0
      for part in read(name, unique):
        image[own[first[done : done + len(part)]]] = part
        done += len(part)
      again = np.delete(np.arange(len(own)), first)
      image[own[again]] = image[own[first[which[again]]]]
      half = half._replace(image=image.reshape(*half.index.shape, *sets[name].shape))
    out[name] = half
  return out


def materialise(
  env: Env,
  phase: Phase,
  tables: dict[str, jax.Array],
  batch: Batch,
  now: Now,
  augment: Callable[[jax.Array, jax.Array], jax.Array],
  preprocess: Callable[[jax.Array], jax.Array],
) -> Batch:
  """Gathers, augments and normalises a device's share of a batch, inside the `shard_map`.

  Every draw is keyed by (seed, phase, step, client, place in the batch), or by (seed, client, crop,
  row) where `Feed.crop` says which view is wanted; a common public batch is augmented alike for
  all clients of a replica.

  Args:
    env: Env.
    phase: Phase.
    tables: {'private': u8[N, h, w, c] or f32[N, features], 'public': ...} of resident sets.
    batch: Batch of Drawn, with images where a set is not resident.
    now: Now.
    augment: (key, u8[h, w, c] or f32[features]) -> the same.
    preprocess: what comes out of it -> f32.

  Returns:
    Batch of Examples.
  """

  def fill(half, name, g):
    image = tables[name][half.index] if half.image is None else half.image
    n, words = image.shape[1], f"{phase.name} {name} augment"
    if half.crop is not None:
      keys = _view_keys(env.keys(g, f"{name} crop", 0), half.crop, half.row)
    elif name == "public" and phase.feed.common:
      keys = jax.vmap(lambda key: example_keys(key, n))(env.common_keys(g, words, now.phase_call))
    else:
      keys = jax.vmap(lambda key: example_keys(key, n))(env.keys(g, words, now.phase_call))

    def one(keys, images):
      images = jax.vmap(augment)(keys, images)
      return jax.vmap(preprocess)(images).astype(env.dtype)

    return Examples(
      image=jax.vmap(one)(keys, image),
      label=half.label,
      index=half.index,
      row=half.row,
      mask=half.mask,
      key=env.keys(g, f"{phase.name} {name} model", now.phase_call),
      total=jax.lax.psum(half.mask.sum(1), "data"),
    )

  def side(halves, name):
    return halves and tuple(h and fill(h, name, g) for g, h in enumerate(halves))

  return Batch(side(batch.private, "private"), side(batch.public, "public"), batch.server)


def _view_keys(keys, crop, row):
  """key[K_g, B] of views: a client's own key[K_g], which view i32[K_g, B], of which example."""
  one = lambda key, crop, row: jax.random.fold_in(jax.random.fold_in(key, crop), row)
  return jax.vmap(jax.vmap(one, (None, 0, 0)))(keys, crop, row)
