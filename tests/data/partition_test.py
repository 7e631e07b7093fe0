"""Who holds which example: sizes, distributions and refusals, for every kind of partition."""

import numpy as np
import pytest

import kdjax
from kdjax.core.random import host_rng
from kdjax.data import holders
from kdjax.data import partition as p
from kdjax.types import ConfigError

LABELS = host_rng(0, "test labels").permutation(np.repeat(np.arange(10), 100))


def partition(seeds=(0,), strata=None, **changes):
  settings = dict(
    K=4,
    classes=10,
    public_share=0.1,
    public_reuse=False,
    public_limit=0,
    public_separate=0,
    kind="skew",
    skew=100.0,
    primary="random",
    labels_per_client=3,
    alpha=None,
    counts=None,
    owned=False,
    overlay=dict(share=0.0, clients=()),
  )
  if strata is None:
    strata = LABELS % 4 if changes.get("kind") == "owner" else LABELS
  return holders.hand_out(LABELS, strata, holders.Split(**(settings | changes)), seeds)


def members(shards):
  return sorted(np.concatenate(shards.private).tolist())


# Public and private


def split(n, share, seed=3, reuse=False, limit=0):
  return p.public_private(n, share=share, reuse=reuse, limit=limit, seed=seed)


def test_public_and_private_split_the_training_set():
  public, private = split(1000, 0.1)
  assert len(public) == 100 and public.dtype == np.int64
  assert sorted([*public, *private]) == list(range(1000))
  for places in (public, private):
    assert np.all(np.diff(places) > 0)


def test_with_reuse_everything_is_public_and_the_private_part_stays():
  """MHD+: `public_share` says what the clients do not hold, reuse makes all of it public."""
  _, private = split(50, 0.2)
  public, same = split(50, 0.2, reuse=True)
  np.testing.assert_array_equal(public, np.arange(50))
  np.testing.assert_array_equal(same, private)
  assert len(private) == 40


def test_a_limit_changes_the_public_part_alone():
  public, private = split(100, 0.3)
  before = set()
  for limit in (1, 10, 30):
    fewer, same = split(100, 0.3, limit=limit)
    np.testing.assert_array_equal(same, private)
    assert len(fewer) == limit and before < set(fewer) <= set(public)
    before = set(fewer)
  more, same = split(100, 0.3, reuse=True, limit=40)
  np.testing.assert_array_equal(same, private)
  assert len(more) == 40 and set(public) < set(more)  # what is withheld comes first
  with pytest.raises(ConfigError, match="public_limit = 31: at most the 30 public examples"):
    split(100, 0.3, limit=31)


def test_no_public_example_is_a_valid_split():
  public, private = split(50, 0)
  assert len(public) == 0 and len(private) == 50


def test_public_share_is_drawn_uniformly():
  counts = sum(np.bincount(split(20, 0.25, seed=s)[0], minlength=20) for s in range(400))
  assert abs(counts - 100).max() < 5 * np.sqrt(400 * 0.25 * 0.75)


# Skew


PRIMARY = ((0, 1), (1, 2), (1,), (), (), (), (), ())  # label 0 has one client, label 3 none


def test_skewed_covers_every_place_once_and_follows_the_probabilities():
  labels = np.repeat([0, 1, 3], 8000)
  places = np.arange(0, 24000, 2)
  parts = p.skewed(labels, places, primary=PRIMARY, s=100, classes=4, seed=1)
  np.testing.assert_array_equal(np.sort(np.concatenate(parts)), places)
  P = p.owner_probabilities(PRIMARY, classes=4, s=100)
  for label in (0, 1, 3):
    found = np.array([np.sum(labels[part] == label) for part in parts])
    sigma = np.sqrt(4000 * P[label] * (1 - P[label]))
    assert np.all(abs(found - 4000 * P[label]) < 4.5 * sigma), (label, found)


def test_with_infinite_skew_only_primary_clients_own_a_label():
  primary = ((9, 0), (1, 2), (3, 4, 5), ())  # 6, 7 and 8 are nobody's
  shards = partition(primary=primary, skew=float("inf"), public_share=0.0)
  counts = shards.label_counts
  for label in (0, 1, 2, 3, 4, 5, 9):
    owner = next(i for i, labels in enumerate(primary) if label in labels)
    assert counts[owner, label] == 100
  assert np.all(counts[:, 6:9] > 0)
  assert shards.primary == ((0, 9), (1, 2), (3, 4, 5), ())


# The other kinds


def test_dirichlet_deals_every_class_out_and_leaves_nobody_with_less_than_ten():
  for seed in range(10):
    parts = p.dirichlet(LABELS, np.arange(1000), K=8, alpha=0.3, classes=10, seed=seed)
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(1000))
    assert min(map(len, parts)) >= 10
    counts = np.stack([np.bincount(LABELS[part], minlength=10) for part in parts])
    # Who holds 125 gets no more: one class above is the most that can happen.
    assert counts.sum(axis=1).max() < 125 + 100
    full = counts.cumsum(axis=1)[:, :-1] >= 125
    np.testing.assert_array_equal(counts[:, 1:][full], 0)


@pytest.mark.parametrize("alpha", [1e-6, 1e6])
def test_dirichlet_concentration(alpha):
  parts = p.dirichlet(LABELS, np.arange(1000), K=5, alpha=alpha, classes=10, seed=0)
  counts = np.stack([np.bincount(LABELS[part], minlength=10) for part in parts])
  if alpha > 1:
    assert abs(counts - 20).max() <= 2  # equal shares, up to rounding
  else:
    assert np.all((counts == 0) | (counts == 100))  # a class is one client's


def test_equal_parts_differ_by_at_most_one():
  parts = p.equal(np.arange(5, 108), K=4, seed=0)
  assert sorted(map(len, parts)) == [25, 26, 26, 26]
  np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(5, 108))
  assert any(np.any(np.diff(part) > 1) for part in parts)  # shuffled, not cut in order


def test_table_hands_out_exactly_its_counts():
  counts = np.zeros((4, 10), int)
  counts[0, 0], counts[1, 0], counts[2, 3:5], counts[3, 9] = 60, 40, 7, 20
  places = np.arange(1000)
  parts = p.table(LABELS, places, counts=counts.tolist(), seed=0)
  found = np.stack([np.bincount(LABELS[part], minlength=10) for part in parts])
  np.testing.assert_array_equal(found, counts)
  assert len(set(np.concatenate(parts))) == counts.sum()


def test_table_counts_strata_and_not_labels():
  strata = np.repeat(np.arange(4), 10)
  parts = p.table(strata, np.arange(40), counts=((0, 5, 0, 0), (0, 0, 0, 10)), seed=0)
  assert set(strata[parts[0]]) == {1} and len(parts[0]) == 5
  np.testing.assert_array_equal(parts[1], np.arange(30, 40))


def test_table_with_too_few_examples_names_class_and_client():
  counts = ((90,) + (1,) * 9, (11,) + (1,) * 9)
  with pytest.raises(ConfigError, match="counts = 101: class 0 .* has only 100 .* at client 1"):
    p.table(LABELS, np.arange(1000), counts=counts, seed=0)
  with pytest.raises(ConfigError, match="10 counts, 0 or more, for each client"):
    p.table(LABELS, np.arange(1000), counts=((1, 2),), seed=0)
  for row in (10, (0.5,) * 10, ("1",) * 10, (-1,) * 10):
    with pytest.raises(ConfigError, match="10 counts, 0 or more, for each client"):
      p.table(LABELS, np.arange(1000), counts=(row,), seed=0)


def test_owners_hold_what_is_theirs_as_far_as_it_is_private():
  owner = np.array([2, 0, 1, 0, 2, 2])
  parts = p.owned(owner, np.array([0, 1, 2, 4]), K=3)
  assert [part.tolist() for part in parts] == [[1], [2], [0, 4]]
  with pytest.raises(ConfigError, match="clients = 2: examples have owners 0 to 2, .* 2 clients"):
    p.owned(owner, np.arange(6), K=2)


def test_a_source_without_owners_is_dealt_to_none():
  with pytest.raises(ConfigError, match="partition = 'owner': the source does not say whose"):
    partition(kind="owner", strata=LABELS)


def test_owners_may_hold_a_class_each():
  """Owners that equal the labels are owners all the same, after a holdout and a limit too."""
  x, y = np.ones((12, 2)), np.arange(12) % 2
  changes = dict(partition="owner", replicas=1, public_batch=1, labels=2, compare=())
  clients = ((2, "mlp", {"hidden": (4,), "activation": "tanh"}),)
  algo = {"algo.teachers": 1, "model.norm": "none"}
  config = kdjax.get_config("mhd_digits", clients=clients, holdout=2, limit=9, **changes, **algo)
  with pytest.raises(ConfigError, match="partition = 'owner': the source does not say whose"):
    kdjax.build(config, data=kdjax.arrays(train=(x, y)))
  data = kdjax.build(config, data=kdjax.arrays(train=(x, y), owner=y)).data
  counts = data.shards.label_counts
  assert counts[0, 1] == counts[1, 0] == 0 and counts.sum() + len(data.shards.public[0]) == 9


def test_arrays_have_owners():
  X, y, owner = np.arange(12.0).reshape(6, 2), np.array([0, 1] * 3), np.array([1, 1, 0, 0, 1, 0])
  source = kdjax.arrays(train=(X, y), owner=owner)
  np.testing.assert_array_equal(source.train.strata, owner)
  np.testing.assert_array_equal(source.train.labels, y)
  for wrong in (owner[:5], owner - 1, 3, owner / 1.0, "ann"):
    with pytest.raises(ConfigError, match=r"owner = .*\[6\], a whole number from 0"):
      kdjax.arrays(train=(X, y), owner=wrong)


# Whole partitions

KINDS = {
  "skew": {},
  "dirichlet": {"kind": "dirichlet", "alpha": 0.5},
  "equal": {"kind": "equal"},
  "table": {"kind": "table", "counts": tuple((5,) * 10 for _ in range(4))},
  "owner": {"kind": "owner"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_private_sets_are_disjoint_ascending_and_hold_no_public_example(kind):
  shards = partition(**KINDS[kind])
  everyone = members(shards)
  assert len(everyone) == len(set(everyone)) == (200 if kind == "table" else 900)
  assert not set(everyone) & set(shards.public[0])
  assert [part.dtype for part in shards.private] == [np.int64] * 4
  assert all(np.all(np.diff(part) > 0) for part in (*shards.private, *shards.public))
  counts = [[np.sum(LABELS[part] == label) for label in range(10)] for part in shards.private]
  np.testing.assert_array_equal(shards.label_counts, counts)
  assert shards.label_counts.dtype == np.int64
  assert len(shards.primary) == 4 and len(shards.primary[0]) == (3 if kind == "skew" else 0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_replica_depends_on_its_own_seed_only(kind):
  both = partition(seeds=(7, 8), **KINDS[kind])
  for r, seed in enumerate((7, 8)):
    alone = partition(seeds=(seed,), **KINDS[kind])
    for a, b in zip(both.private[4 * r : 4 * r + 4], alone.private, strict=True):
      np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(both.public[r], alone.public[0])
    assert both.primary[4 * r : 4 * r + 4] == alone.primary
    np.testing.assert_array_equal(both.label_counts[4 * r : 4 * r + 4], alone.label_counts)
  assert both.private[0].tolist() != both.private[4].tolist()
  assert both.public[0].tolist() != both.public[1].tolist()


def same_clients(a, b):
  """Whether two Shards hand out the same private parts."""
  return all(map(np.array_equal, a.private, b.private)) and a.primary == b.primary


@pytest.mark.parametrize("kind", KINDS)
def test_who_holds_what_depends_neither_on_reuse_nor_on_a_limit(kind):
  usual = partition(**KINDS[kind])
  plus = partition(public_reuse=True, **KINDS[kind])
  fewer = partition(public_limit=20, **KINDS[kind])
  assert same_clients(usual, plus) and same_clients(usual, fewer)
  assert [len(x.public[0]) for x in (usual, plus, fewer)] == [100, 1000, 20]
  assert len(members(usual)) <= 900


def test_a_separate_public_source_leaves_the_training_set_private():
  shards = partition(public_separate=300, public_share=0.5)
  assert members(shards) == list(range(1000))
  assert len(shards.public[0]) == 150 and shards.public[0].max() < 300
  fewer = partition(public_separate=300, public_share=0.5, public_limit=10)
  assert len(fewer.public[0]) == 10 and set(fewer.public[0]) < set(shards.public[0])
  whole = partition(public_separate=300, public_share=1.0)
  np.testing.assert_array_equal(whole.public[0], np.arange(300))


@pytest.mark.parametrize(
  "changes, message",
  [
    ({"kind": "skewed"}, "partition = 'skewed'"),
    ({"skew": -1.0}, "skew = -1.0"),
    ({"skew": float("nan")}, "skew = nan"),
    ({"skew": None}, "skew = None"),
    ({"public_share": 1.5}, "public_share = 1.5: between 0 and 1"),
    ({"public_share": 1.0}, "public_share = 1.0: below 1"),
    ({"public_separate": 9, "public_reuse": True}, "public_reuse = True: must be False with a"),
    ({"kind": "dirichlet", "alpha": 0.0}, "alpha = 0.0"),
    ({"kind": "dirichlet", "alpha": 1.0, "K": 100}, r"alpha = 1.0: .*seed 0.*100 clients"),
    ({"kind": "table", "counts": ((1,) * 10,)}, "one row of counts for each of 4 clients"),
    ({"kind": "table", "counts": None}, "counts = None"),
    ({"kind": "equal", "K": 901}, "partition = 'equal': client 900 gets no example with seed 0"),
    ({"kind": "owner", "K": 5}, "partition = 'owner': client 4 gets no example .* public_share"),
    ({"kind": "owner", "K": 3}, "clients = 3: examples have owners 0 to 3"),
  ],
)
def test_what_cannot_be_handed_out_is_refused(changes, message):
  with pytest.raises(ConfigError, match=message):
    partition(**changes)


def test_an_empty_client_is_named_with_its_seed():
  primary = ((0, 1, 2, 3), (4, 5, 6), (7, 8, 9), ())
  with pytest.raises(ConfigError, match="client 3 gets no example with seed 5"):
    partition(primary=primary, skew=float("inf"), seeds=(5,))


def test_an_overlay_is_of_everybodys_classes_and_stays_whose_it_is():
  """The paper's 5 %: "a slight overlap with training data to the remote models"."""
  kwargs = dict(K=3, kind="skew", primary=((0, 1, 2), (3, 4, 5), (6, 7, 8, 9)), skew=np.inf)
  plain = partition(**kwargs)
  shards = partition(**kwargs, overlay=dict(share=0.05, clients=(2,)))
  for i in (0, 1):
    np.testing.assert_array_equal(shards.private[i], plain.private[i])
  mine = shards.private[2]
  assert len(np.unique(mine)) == len(mine) and np.isin(plain.private[2], mine).all()
  extra, n = np.setdiff1d(mine, plain.private[2]), len(np.unique(np.concatenate(plain.private)))
  assert np.isin(extra, np.concatenate(plain.private[:2])).all()
  assert len(extra) > 0 and abs(len(extra) - 0.6 * round(0.05 * n)) < 0.3 * 0.05 * n
  np.testing.assert_array_equal(shards.label_counts[2], np.bincount(LABELS[mine], minlength=10))


@pytest.mark.parametrize("overlay", [dict(share=0.1, clients=()), dict(share=0.1, clients=(3,))])
def test_an_overlay_needs_clients_that_exist(overlay):
  with pytest.raises(ConfigError, match="overlay"):
    partition(K=3, kind="equal", overlay=overlay)
