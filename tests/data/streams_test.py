"""Index streams: pure, complete, and independent of everything but seed, phase, step and client."""

import gc
import pickle
import weakref

import chex
import numpy as np
import pytest

from kdjax.data.streams import Streams
from kdjax.training.schedule import Visit
from kdjax.types import Feed, Phase, Pos, Shards

SIZES = (5, 7, 20)
LABELS = (np.arange(200) * 7 % 10).astype(np.int32)


def shard(k, size):
  """Client k's list: places 40 k, 40 k + 1, ..."""
  return np.arange(size) + 40 * k


def make(private=None, *, seeds=(0,), identity=None, public=(150, 170), members=None):
  private = [shard(k, n) for k, n in enumerate(SIZES)] if private is None else private
  shards = Shards(
    private=tuple(private),
    public=(np.arange(*public),) * len(seeds),
    primary=((),) * len(private),
    label_counts=np.zeros((len(private), 10), int),
  )
  K = len(private) // len(seeds)
  identity = tuple(range(K)) if identity is None else identity
  members = (tuple(range(len(identity))),) if members is None else members
  return Streams(shards, members, LABELS, np.full_like(LABELS, -1), seeds, identity)


def at(count=0, *, round=0, i=0, step=0):
  return Pos(step, count, i, round, 0, 0, 0)


def rows(streams, feed, positions, half="private", phase="train"):
  """Rows [K, len(positions) * B]."""
  batches = [streams.batch(feed, phase, pos)[half] for pos in positions]
  return np.concatenate([b.row for b in batches], axis=1)


def counts(n):
  return [at(count) for count in range(n)]


# Both kinds


def test_permutations_go_with_their_streams():
  """They stayed for ever, of every experiment of a process."""
  streams = make()
  for count in range(30):
    streams.batch(Feed(private=3, public=4), "train", at(count))
  kept = streams._permutation._kept
  assert len(kept) == 6 and all(len(epochs) <= 2 for epochs in kept.values())
  first = weakref.ref(next(iter(next(iter(kept.values())).values())))
  assert not pickle.loads(pickle.dumps(streams))._permutation._kept
  del kept, streams
  gc.collect()
  assert first() is None


@pytest.mark.parametrize("kind", ["stream", "epoch"])
def test_batches_are_a_pure_function_of_the_position(kind):
  feed = Feed(private=3, public=4, kind=kind, epochs=9)
  positions = [at(count=t, i=t, step=t) for t in range(6)]
  forward = [make().batch(feed, "train", pos) for pos in positions]
  streams = make()
  backward = [streams.batch(feed, "train", pos) for pos in reversed(positions)][::-1]
  chex.assert_trees_all_equal(forward, backward)


def test_a_batch_names_places_rows_and_labels():
  batch = make().batch(Feed(private=3, public=4), "train", at(2))
  private, public = batch["private"], batch["public"]
  for k, n in enumerate(SIZES):
    assert private.row[k].min() >= 0 and private.row[k].max() < n
    np.testing.assert_array_equal(private.index[k], shard(k, n)[private.row[k]])
  np.testing.assert_array_equal(private.label, LABELS[private.index])
  np.testing.assert_array_equal(public.index, 150 + public.row)
  np.testing.assert_array_equal(public.label, np.full((3, 4), -1))
  assert private.image is None and public.image is None
  for half, size in ((private, 3), (public, 4)):
    for x, dtype in zip(
      (half.label, half.index, half.row, half.mask), [np.int32] * 3 + [np.float32], strict=True
    ):
      assert x.shape == (3, size) and x.dtype == dtype


def test_a_client_that_holds_less_than_a_batch():
  """A stream goes through its data over and over; an epoch has each once and pads."""
  size = 2 * max(SIZES) + 1
  batch = make().batch(Feed(private=size), "train", at(1))["private"]
  for k, n in enumerate(SIZES):
    seen = np.bincount(batch.row[k], minlength=n)
    assert len(seen) == n and seen.sum() == size and seen.max() - seen.min() <= 2
  assert batch.mask.all()
  batch = make().batch(Feed(private=size, kind="epoch"), "train", at())["private"]
  for k, n in enumerate(SIZES):
    assert sorted(batch.row[k][batch.mask[k] > 0]) == list(range(n))


def test_a_feed_receives_what_it_asks_for():
  assert list(make().batch(Feed(private=3), "train", at())) == ["private"]
  assert list(make().batch(Feed(public=3), "train", at())) == ["public"]


@pytest.mark.parametrize("kind", ["stream", "epoch"])
def test_seed_phase_and_client_each_make_another_order(kind):
  lists = [shard(0, 20)] * 2
  feed, positions = Feed(private=10, kind=kind), [at(count=t, i=t) for t in range(2)]
  base = rows(make(lists), feed, positions)
  assert (base[0] != base[1]).any()
  assert (base != rows(make(lists, seeds=(1,)), feed, positions)).any()
  assert (base != rows(make(lists), feed, positions, phase="revisit")).any()


@pytest.mark.parametrize("kind", ["stream", "epoch"])
def test_a_client_does_not_depend_on_the_others(kind):
  """Neither on how many they are nor on what they hold."""
  feed, positions = Feed(private=3, public=2, kind=kind), [at(count=t, i=t) for t in range(4)]
  for half in ("private", "public"):
    base = rows(make(), feed, positions, half)
    alone = rows(make([shard(0, 5)]), feed, positions, half)
    np.testing.assert_array_equal(alone[0], base[0])
    others = rows(
      make([shard(0, 5), shard(3, 11), shard(4, 2), shard(1, 9)]), feed, positions, half
    )
    np.testing.assert_array_equal(others[0], base[0])


@pytest.mark.parametrize("kind", ["stream", "epoch"])
def test_clients_that_stand_elsewhere_see_the_same(kind):
  name = (2, 0, 1)
  feed, positions = Feed(private=3, public=4, kind=kind), [at(count=t, i=t) for t in range(4)]
  moved = make([shard(k, SIZES[k]) for k in name], identity=name)
  for pos in positions:
    base, other = make().batch(feed, "train", pos), moved.batch(feed, "train", pos)
    for half in ("private", "public"):
      np.testing.assert_array_equal(other[half].index, base[half].index[list(name)])


def test_replicas_equal_runs_of_their_own():
  private = [shard(k, n) for k, n in enumerate(SIZES)]
  feed = Feed(private=3, public=4)
  both = make(private * 2, seeds=(5, 6))
  for half in ("private", "public"):
    folded = rows(both, feed, counts(5), half)
    separate = [rows(make(private, seeds=(s,)), feed, counts(5), half) for s in (5, 6)]
    np.testing.assert_array_equal(folded, np.concatenate(separate))
    assert (separate[0] != separate[1]).any()


# Streams


@pytest.mark.parametrize("size", [3, 5, 16])
def test_a_stream_is_one_permutation_after_another(size):
  """Batches run over the borders of epochs, and over several where the list is short."""
  walk = rows(make(), Feed(private=size), counts(60))
  for k, n in enumerate(SIZES):
    epochs = walk[k, : walk.shape[1] // n * n].reshape(-1, n)
    np.testing.assert_array_equal(np.sort(epochs), np.tile(np.arange(n), (len(epochs), 1)))
    assert len(np.unique(epochs, axis=0)) > len(epochs) // 2  # shuffled anew


def test_a_stream_masks_nothing():
  batch = make().batch(Feed(private=16), "train", at(3))["private"]
  np.testing.assert_array_equal(batch.mask, np.ones((3, 16)))


def test_a_stream_goes_on_from_visit_to_visit():
  """It counts the phase's own batches, whatever the round or the step."""
  feed = Feed(private=3)
  a = make().batch(feed, "train", at(4, round=0, i=4, step=4))
  b = make().batch(feed, "train", at(4, round=2, i=0, step=9))
  chex.assert_trees_all_equal(a, b)


# Epochs


def test_epoch_steps_suit_the_longest_client():
  steps = lambda feed: make().epoch_steps(feed, 0)
  assert steps(Feed(private=3, kind="epoch")) == 7  # ceil(20 / 3)
  assert steps(Feed(private=3, kind="epoch", epochs=2)) == 14
  assert steps(Feed(private=20, kind="epoch")) == 1
  assert steps(Feed(public=8, kind="epoch")) == 3  # ceil(20 / 8)
  assert steps(Feed(public=8, kind="epoch", sample=16)) == 2


def visit(streams, feed, round=0, half="private"):
  """All batches of one visit, joined: Drawn of [K, steps * B]."""
  positions = [at(round=round, i=i) for i in range(streams.epoch_steps(feed, round))]
  batches = [streams.batch(feed, "train", pos)[half] for pos in positions]
  join = lambda *xs: np.concatenate(xs, axis=1)
  return batches[0]._replace(
    **{f: join(*[getattr(b, f) for b in batches]) for f in ("label", "index", "row", "mask")}
  )


def test_epoch_masks_by_hand():
  whole = visit(make(), Feed(private=3, kind="epoch", epochs=2))
  expected = {
    0: "111 110 111 110" + " 000" * 10,  # 5 examples in batches of 3, twice, then rest
    1: "111 111 100" * 2 + "000" * 8,  # 7 examples
    2: ("111" * 6 + "110") * 2,  # 20 examples
  }
  for k, mask in expected.items():
    np.testing.assert_array_equal(whole.mask[k], [float(c) for c in mask.replace(" ", "")])


def test_every_epoch_is_a_permutation_of_its_own():
  epochs = 3
  feed = Feed(private=3, kind="epoch", epochs=epochs)
  seen = {n: [] for n in SIZES}
  for round in range(2):
    whole = visit(make(), feed, round)
    for k, n in enumerate(SIZES):
      places = whole.row[k][whole.mask[k] > 0].reshape(epochs, n)
      np.testing.assert_array_equal(np.sort(places), np.tile(np.arange(n), (epochs, 1)))
      seen[n] += places.tolist()
  assert len({tuple(p) for p in seen[20]}) == 2 * epochs  # another order in every epoch and round


def test_padding_repeats_examples_of_the_client():
  """Masked rows still pass through the model, so they have to be there."""
  whole = visit(make(), Feed(private=3, kind="epoch"))
  for k, n in enumerate(SIZES):
    assert set(whole.index[k].tolist()) == set(shard(k, n).tolist())


def test_an_epoch_smaller_than_a_batch():
  whole = visit(make([shard(0, 2)]), Feed(private=7, kind="epoch"))
  np.testing.assert_array_equal(whole.mask, [[1, 1, 0, 0, 0, 0, 0]])
  np.testing.assert_array_equal(np.sort(whole.row[0, :2]), [0, 1])


# Public batches


def test_common_public_batches_are_equal_within_a_replica():
  private = [shard(k, n) for k, n in enumerate(SIZES)] * 2
  streams = make(private, seeds=(0, 1))
  index = streams.batch(Feed(public=8, common=True), "train", at(3))["public"].index
  for r in range(2):
    np.testing.assert_array_equal(index[3 * r : 3 * r + 3], np.tile(index[3 * r], (3, 1)))
  assert (index[0] != index[3]).any()
  own = streams.batch(Feed(public=8), "train", at(3))["public"].index
  assert len(np.unique(own, axis=0)) == 6


def test_a_sample_is_the_same_for_all_phases_of_a_round():
  def subset(feed, phase, round, k=0):
    streams = make()
    batches = [streams.batch(feed, phase, at(round=round, i=i))["public"] for i in range(2)]
    index = np.concatenate([b.index[k][b.mask[k] > 0] for b in batches])
    row = np.concatenate([b.row[k][b.mask[k] > 0] for b in batches])
    return dict(zip(row.tolist(), index.tolist(), strict=True))

  feed = Feed(public=3, kind="epoch", common=True, sample=6)
  first = subset(feed, "digest", 0)
  assert sorted(first) == list(range(6))  # row: the place in the sample
  assert len(set(first.values())) == 6 and set(first.values()) <= set(range(150, 170))
  assert first == subset(feed, "announce", 0)
  assert first == subset(feed._replace(common=False), "digest", 0, k=2)
  assert set(first.values()) != set(subset(feed, "digest", 1).values())


# Models that travel


def test_a_client_works_on_the_data_of_whoever_owns_it_this_round():
  """A core (client 0) and two copies of a model that visit holder 1, then holder 2."""
  streams = make(members=((0,), (1, 2)))
  visit = lambda round, i: (1, 2)[round]
  feed = Feed(private=4, kind="epoch", cohorts=(1,), owner=visit)
  assert [streams.epoch_steps(feed, round) for round in (0, 1)] == [
    2,
    5,
  ]  # ceil(7 / 4), ceil(20 / 4)
  for round, holder in ((0, 1), (1, 2)):
    half = streams.batch(feed, "edge", at(round=round))["private"]
    assert np.isin(half.index[1:], shard(holder, SIZES[holder])).all()
    assert (half.index[1] != half.index[2]).any()  # copies differ in the order of their batches
    chex.assert_trees_all_equal(half.mask, np.array([[0.0] * 4, [1.0] * 4, [1.0] * 4], np.float32))


def test_whoever_takes_no_part_does_not_lengthen_an_epoch():
  streams = make(members=((0, 1), (2,)))
  assert streams.epoch_steps(Feed(private=3, kind="epoch", cohorts=(0,)), 0) == 3  # ceil(7 / 3)


def test_examples_processed_are_counted_by_whose_they_are():
  """Two rounds of one epoch in batches of 4: every visitor reads its host's whole list."""
  streams = make(members=((0,), (1, 2)))
  visit = lambda feed, n, round: Visit(
    Phase("", None, feed, None), 0, round, 0, 0, 0, n, True, True
  )
  core = Feed(private=2)
  edge = Feed(private=4, kind="epoch", cohorts=(1,), owner=lambda round, i: 1 + round)
  visits = [visit(core._replace(cohorts=(0,)), 3, 0), visit(edge, 2, 0), visit(edge, 5, 1)]
  assert streams.processed(visits).tolist() == [3 * 2, 2 * 7, 2 * 20]
  assert streams.processed([visit(edge, 1, 0)]).tolist() == [0, 2 * 4, 0]  # cut short


def test_images_are_counted_without_padding():
  """Of 5, 7 and 20 in batches of 4: an epoch's last call has 1, 3 and 4."""
  streams, epochs = make(), Feed(private=4, kind="epoch", epochs=2)
  by_call = [streams.images(epochs, 0, i, i + 1) for i in range(11)]
  assert by_call == [12, 1 + 3 + 4, 12, 1 + 3 + 4, 4, 4, 4, 4, 4, 4, 0]
  assert streams.images(epochs, 0, 1, 4) == sum(by_call[1:4])
  assert sum(by_call) == 2 * sum(SIZES)
  assert streams.images(Feed(private=4, public=2), 0, 5, 8) == 3 * 3 * (4 + 2)
  assert streams.images(Feed(server=lambda pos: None), 0, 0, 5) == 0
