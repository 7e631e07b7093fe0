"""FedMD with a public set of its own, from files: whose labels are whose, and what they are for."""

import ensembles
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import experiment
from kdjax.algorithms.fedmd.steps import agreement
from kdjax.core.passes import eval_mode
from kdjax.models.fedmd import ARCHITECTURES
from kdjax.training import schedule
from kdjax.types import ConfigError

PRIVATE, PUBLIC = 4, 3  # classes


def write(path, classes, train, test, seed, image=ensembles.IMAGE):
  """An npz file whose images show their class by a pattern."""
  rng = np.random.default_rng(seed)
  pattern = rng.integers(200, size=(classes, *image))

  def split(n):
    label = np.arange(n) % classes
    return (pattern[label] + rng.integers(56, size=(n, *image))).astype(np.uint8), label

  arrays = {}
  for name, n in (("train", train), ("test", test)):
    arrays[f"{name}_images"], arrays[f"{name}_labels"] = split(n)
  np.savez(path, **arrays)


@pytest.fixture
def files(tmp_path):
  write(tmp_path / "private.npz", PRIVATE, 40, 22, seed=1)
  write(tmp_path / "public.npz", PUBLIC, 48, 3, seed=2)
  return tmp_path


def build(files, *, public_labels, public_epochs, **changes):
  clients = ((2, *ensembles.MLP),)
  epochs = dict(algo_public_epochs=public_epochs, algo_private_epochs=8)
  c = ensembles.config("fedmd", clients, dtype="float32", **epochs)
  info = dict(train=40, test=22, image=ensembles.IMAGE, classes=PRIVATE, resize=False)
  c.source, c.source_info = f"npz:{files / 'private.npz'}", info
  c.public_source = f"npz:{files / 'public.npz'}"
  c.public_source_info = info | dict(train=48, test=3, classes=PUBLIC)
  c.public_labels, c.public_share, c.partition = public_labels, 1.0, "equal"
  c.update(changes)
  return experiment.build(c, devices=jax.devices()[:1])


def logits(e, state, images):
  """f32[K, N, C] of the main heads for images u8[N, h, w, c], client by client."""
  (model,), (clients,) = [c.model for c in e.env.cohorts], state.clients
  one = lambda k: eval_mode(model, jax.tree.map(lambda x: x[k], clients), images / 127.5 - 1)
  return np.stack([one(k).logits[:, 0] for k in range(e.env.K)])


def cross_entropy(e, state):
  """f32[K], over the whole public set."""
  z = logits(e, state, e.data.public.array)
  said = z - np.log(np.exp(z).sum(-1, keepdims=True))
  return -said[:, np.arange(48), e.data.public.labels].mean(1)


def test_labels_of_a_public_set_come_before_the_private_ones(files):
  e = build(files, public_labels=True, public_epochs=1)
  source = e.data.source
  assert e.env.task.classes == source.classes == PRIVATE + PUBLIC
  np.testing.assert_array_equal(source.train.labels, np.arange(40) % PRIVATE + PUBLIC)
  np.testing.assert_array_equal(source.test.labels, np.arange(22) % PRIVATE + PUBLIC)
  np.testing.assert_array_equal(e.data.public.labels, np.arange(48) % PUBLIC)
  np.testing.assert_array_equal(e.streams.public_labels, np.arange(48) % PUBLIC)
  assert e.data.shards.label_counts[:, :PUBLIC].sum() == 0
  assert e.data.shards.label_counts[:, PUBLIC:].sum() == 40
  np.testing.assert_array_equal(e.data.shards.public[0], np.arange(48))


def test_pre_training_learns_the_public_set_and_only_tested_classes_are_counted(files):
  e = build(files, public_labels=True, public_epochs=1)
  public, private = e.visits[:2]
  assert [v.phase.name for v in (public, private)] == ["public training", "private training"]
  assert public.calls == 6  # 48 / 8
  before = cross_entropy(e, e.init())
  state, _ = ensembles.train(e, calls=public.calls)
  assert (cross_entropy(e, state) < 0.8 * before).all()

  state, _ = ensembles.train(e, state, calls=private.start + private.calls)
  label = e.data.source.test.labels
  hit = logits(e, state, e.data.source.test.array).argmax(-1) == label
  tested = range(PUBLIC, PUBLIC + PRIVATE)
  expected = np.mean([hit[:, label == c].mean(1) for c in tested], axis=0)
  assert (expected > 0.5).all()
  (result,) = e.evaluators["accuracy"][1](state)
  np.testing.assert_allclose(result["shared_accuracy"]["main"], expected, rtol=1e-9)


@pytest.mark.parametrize(
  "primary",
  [dict(primary="even", labels=2), dict(primary="explicit", primary_labels=((0, 1), (2, 3)))],
)
def test_primary_labels_are_private_classes(files, primary):
  """All four private classes are somebody's, none of the public ones is; each has its owner."""
  setup = dict(partition="skew", skew=float("inf"), batch=4)
  e = build(files, public_labels=True, public_epochs=1, **setup, **primary)
  shards = e.data.shards
  assert sorted(sum(shards.primary, ())) == [3, 4, 5, 6]
  if primary["primary"] == "explicit":
    assert shards.primary == ((3, 4), (5, 6))
  assert shards.label_counts.shape == (2, PRIVATE + PUBLIC)
  for held, mine, counts in zip(shards.private, shards.primary, shards.label_counts, strict=True):
    assert np.unique(e.data.source.train.labels[held]).tolist() == list(mine)
    assert counts.tolist() == [10 * (label in mine) for label in range(PRIVATE + PUBLIC)]


def test_primary_labels_are_counted_among_the_private_classes(files):
  setup = dict(partition="skew", primary="random", labels=PRIVATE + 1)
  with pytest.raises(ConfigError, match=f"labels = {PRIVATE + 1}: 0 to {PRIVATE}"):
    build(files, public_labels=True, public_epochs=1, **setup)


def test_without_public_labels_the_classes_are_the_private_ones(files):
  e = build(files, public_labels=False, public_epochs=0)
  assert e.env.task.classes == e.data.source.classes == PRIVATE
  np.testing.assert_array_equal(e.data.source.train.labels, np.arange(40) % PRIVATE)
  np.testing.assert_array_equal(e.streams.public_labels, np.full(48, -1))
  assert e.visits[0].phase.name == "private training"


def test_public_pre_training_without_public_labels_is_refused(files):
  with pytest.raises(ConfigError, match="set public_labels=True") as error:
    build(files, public_labels=False, public_epochs=1)
  assert (error.value.key, error.value.value) == ("algo.public_epochs", 1)


@pytest.mark.parametrize(
  "changes, key",
  [
    (dict(algo_public_epochs=-1), "algo.public_epochs"),
    (dict(algo_private_epochs=-1), "algo.private_epochs"),
    (dict(algo_digest_epochs=0), "algo.digest_epochs"),
    (dict(algo_revisit_epochs=0), "algo.revisit_epochs"),
    (dict(algo_public_epochs=1, public_labels=True, public_batch=0), "public_batch"),
  ],
)
def test_passes_that_cannot_be_are_refused(changes, key):
  with pytest.raises(ConfigError, match=f"^{key} = .*at least"):
    ensembles.build(ensembles.config("fedmd", dtype="float32", **changes))


def test_of_an_example_of_which_nobody_says_anything_finite_there_is_no_consensus():
  said = np.array([[[1.0, 2.0], [np.inf, 0.0], [3.0, 1.0]], [[3.0, 4.0], [1.0, 1.0], [5.0, 1.0]]])
  heard = np.array([[True, False, False], [True, True, False]])
  found = agreement(jnp.asarray(said)[None], jnp.asarray(heard)[None])
  inf = np.inf
  np.testing.assert_array_equal(found, [[[2.0, 3.0], [1.0, 1.0], [inf, inf]]])


@pytest.mark.parametrize("lost", [(), (0, 3, 5), range(12)])
def test_nothing_is_learnt_of_an_example_without_a_consensus(lost):
  """The first digest step's loss by hand; a table of which nothing is left moves nobody."""
  c = ensembles.config("fedmd", dtype="float32")
  c.optim = ensembles.common.sgd(lr=0.1, clip=0.0, weight_decay=0.0)
  c.optim.momentum = 0.0
  e = ensembles.build(c)
  visit = next(v for v in e.visits if v.phase.name == "digest")
  state, stepper = ensembles.train(e, calls=visit.start)
  table = np.array(state.server)
  table[0, list(lost)] = np.inf
  state = state._replace(server=jax.device_put(table, state.server.sharding))
  before = jax.device_get(state.clients[0].params)
  drawn = e.streams.batch(visit.phase.feed, "digest", schedule.position(visit, 0, 2))["public"]
  z = logits(e, state, e.data.public.array)
  state, aux = stepper.run(state, next(stepper.dispatches(visit.start))._replace(calls=1))
  for k in range(e.env.K):
    index, row, mask = (np.asarray(x[k]) for x in (drawn.index, drawn.row, drawn.mask))
    known = (mask > 0) & ~np.isin(row, list(lost))
    error = np.abs(table[0, row[known]] - z[k, index[known]]).mean(-1)
    np.testing.assert_allclose(aux[0]["digest"][k], error.sum() / mask.sum(), rtol=1e-5)
  same = jax.tree.map(lambda a, b: bool((a == b).all()), before, state.clients[0].params)
  assert all(jax.tree.leaves(same)) == (len(lost) == 12)


@pytest.mark.thorough
def test_two_of_the_published_networks_train_together(tmp_path):
  """A two-layer and a three-layer one, as published but for the image size, learn their data."""
  image = (12, 12, 1)  # the smallest that three layers take
  write(tmp_path / "set.npz", PRIVATE, 72, 20, seed=3, image=image)
  clients = tuple(
    (1, "fedmd", dict(filters=f, dropout=d)) for f, d in (ARCHITECTURES[0], ARCHITECTURES[6])
  )
  epochs = dict(algo_private_epochs=12, algo_revisit_epochs=2)
  c = ensembles.config("fedmd", clients, norm="batch", dtype="float32", **epochs)
  info = dict(train=72, test=20, image=image, classes=PRIVATE, resize=False)
  c.source, c.source_info = f"npz:{tmp_path / 'set.npz'}", info
  c.public_share, c.partition, c.rounds = 1 / 3, "equal", 1
  c.optim = ensembles.common.adam(lr=1e-3)
  e = experiment.build(c, devices=jax.devices()[:1])
  assert [len(x.filters) for x in (c.model for c in e.env.cohorts)] == [2, 3]
  state, _ = ensembles.train(e)
  (result,) = e.evaluators["accuracy"][1](state)
  assert min(result["shared_accuracy"]["main"]) > 0.6  # chance is 0.25
