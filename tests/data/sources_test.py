"""Sources by name: digits, holdouts, the user's own code and stand-ins."""

import dataclasses
import functools
import sys

import numpy as np
import pytest
from small_data import load, refused

from kdjax.data import sources

# Digits


def test_digits_are_a_stratified_split_that_never_changes():
  source = load("digits", (8, 8, 1), 10)
  assert source.classes == 10 and source.name == "digits"
  assert source.train.array.shape == (1437, 8, 8, 1) and source.train.array.dtype == np.uint8
  assert source.test.array.shape == (360, 8, 8, 1) and source.test.labels.dtype == np.int64
  np.testing.assert_array_equal(np.bincount(source.test.labels), [36] * 10)
  assert set(np.unique(source.train.array)) == {round(v * 255 / 16) for v in range(17)}
  every = np.concatenate([source.train.array, source.test.array]).reshape(-1, 64)
  assert len(np.unique(every, axis=0)) == 1797  # so that no image is in both
  again = load("digits", (8, 8, 1), 10)
  np.testing.assert_array_equal(source.test.array, again.test.array)
  np.testing.assert_array_equal(source.test.labels[:8], [1, 4, 5, 6, 8, 9, 4, 1])
  np.testing.assert_array_equal(source.train.fetch([5, 2]), source.train.array[[5, 2]])


def test_what_the_config_expects_must_be_what_the_source_holds():
  with refused(r"source_info.image = \(28, 28, 1\): .*are \(8, 8, 1\)"):
    load("digits", (28, 28, 1), 10)
  with refused("source_info.classes = 7: 'digits' has 10"):
    load("digits", (8, 8, 1), 7)
  with refused("source_info.resize = True: False"):
    load("digits", (8, 8, 1), 10, resize=True)
  with refused(r"source_info.image = \(8, 8\)"):
    load("digits", (8, 8), 10)
  with refused(r"source_info.image = \(8, 8, 0\): .*or zeros: not given"):
    load("digits", (8, 8, 0), 10)
  with refused("source_info.train = -1: a whole number, or 0: not given"):
    load("digits", (8, 8, 1), 10, train=-1)
  with refused("source_info.classes = 0: say what the source holds"):
    sources.describe("digits", info={"train": 1, "test": 1, "image": (8, 8, 1)})


def test_a_source_that_knows_its_own_facts_needs_none():
  source = load("digits", (0, 0, 0), 0)
  assert source.train.shape == source.test.shape == (8, 8, 1) and source.classes == 10


@pytest.mark.parametrize("name", ["digit", "", "zip:data.zip", "./data.npz", "digits.npz:x"])
def test_an_unknown_kind_lists_the_known_ones(name):
  with refused("'digits', 'idx:DIR'.*'package.module:function'"):
    load(name, (8, 8, 1), 10)


def test_a_holdout_replaces_the_test_set():
  whole = load("digits", (8, 8, 1), 10)
  part = load("digits", (8, 8, 1), 10, holdout=100)
  assert len(part.train.labels) == 1337 and len(part.test.labels) == 100
  rows = lambda images: {row.tobytes() for row in images.array}
  assert rows(part.train) | rows(part.test) == rows(whole.train)
  assert not rows(part.train) & rows(part.test)
  place = {row.tobytes(): i for i, row in enumerate(whole.train.array)}
  for images in (part.train, part.test):
    at = [place[row.tobytes()] for row in images.array]
    assert at == sorted(at)
    np.testing.assert_array_equal(images.labels, whole.train.labels[at])
  for n in (-1, 1437):
    with refused(f"holdout = {n}"):
      load("digits", (8, 8, 1), 10, holdout=n)


def test_a_second_holdout_is_none_of_the_first_and_nobody_trains_on_either():
  rows = lambda images: {row.tobytes() for row in images.array}
  whole = rows(load("digits", (8, 8, 1), 10).train)
  choosing = load("digits", (8, 8, 1), 10, holdout=300)
  reporting = load("digits", (8, 8, 1), 10, holdout=(300, 700))
  sizes = [len(half.labels) for half in (reporting.train, reporting.test)]
  assert sizes == [1437 - 300 - 700, 700] and len(whole) == 1437
  assert not rows(choosing.test) & rows(reporting.test)
  assert rows(reporting.train) == whole - rows(choosing.test) - rows(reporting.test)
  with refused(r"holdout = \(300, 1137\).*together fewer than the 1437"):
    load("digits", (8, 8, 1), 10, holdout=(300, 1137))


def test_one_holdout_draws_what_it_always_drew():
  """Runs of before a second holdout was there go on with the same images."""
  whole, part = (load("digits", (8, 8, 1), 10, holdout=n) for n in (0, 6))
  np.testing.assert_array_equal(part.test.array, whole.train.array[[181, 341, 363, 630, 712, 1064]])


# The user's own code


def toy(labels=(0, 1, 0), **changes):
  labels = np.array(labels, np.int32)
  images = sources.ExampleSet(
    labels, labels, (2, 2, 1), np.zeros((len(labels), 2, 2, 1), np.uint8), None
  )
  images = dataclasses.replace(images, **changes)
  return sources.Source("anything", images, images, 2)


@pytest.fixture
def my_package(tmp_path, monkeypatch):
  package = type(sys)("kdjax_test_package")
  module = type(sys)("kdjax_test_package.toys")
  package.__path__, package.toys = [], module
  monkeypatch.setitem(sys.modules, package.__name__, package)
  monkeypatch.setitem(sys.modules, module.__name__, module)
  return module


def test_a_source_of_ones_own(my_package):
  my_package.load = toy
  my_package.lazy = lambda: toy(array=None, read=lambda i: np.full((len(i), 2, 2, 1), 7, np.uint8))
  source = load("kdjax_test_package.toys:load", (2, 2, 1), 2, holdout=1)
  assert len(source.train.labels) == 2 and source.train.labels.dtype == np.int64
  lazy = functools.partial(load, "kdjax_test_package.toys:lazy", (2, 2, 1), 2)
  assert lazy().train.array.tolist() == np.full((3, 2, 2, 1), 7).tolist()
  assert lazy(resident_bytes=1).train.array is None


LOAD = "kdjax_test_package.toys:load"


@pytest.mark.parametrize(
  "name, make, match",
  [
    ("kdjax_test_package.toys:lod", toy, "defines no 'lod'"),
    ("kdjax_test_package.nothing:f", toy, "no module 'kdjax_test_package.nothing' among"),
    ("no_such_package.toys:f", toy, "no module 'no_such_package.toys' among"),
    ("kdjax_test_package.toys:load", lambda: 3, "must return a kdjax.data.sources.Source, not int"),
    (
      "kdjax_test_package.toys:load",
      lambda: toy((0, 1, 5)),
      "train labels must be 0 to 1, not 0 to 5",
    ),
    (
      "kdjax_test_package.toys:load",
      lambda: toy(strata=np.zeros(2, int)),
      "3 train labels but 2 strata",
    ),
    (
      "kdjax_test_package.toys:load",
      lambda: toy(shape=(3, 3, 1)),
      r"source_info.image = \(2, 2, 1\)",
    ),
  ],
)
def test_broken_sources_of_ones_own_are_refused(my_package, name, make, match):
  my_package.load = make
  with refused(match):
    load(name, (2, 2, 1), 2)


# Stand-ins


def test_a_description_reads_nothing():
  info = dict(train=25, test=7, image=(224, 224, 3), classes=10)
  source = sources.describe("tfds:nothing", info=info)
  np.testing.assert_array_equal(source.train.labels, np.arange(25) % 10)
  np.testing.assert_array_equal(source.train.strata, source.train.labels)
  assert (len(source.test.labels), source.test.shape, source.classes) == (7, (224, 224, 3), 10)
  with pytest.raises(ValueError, match="stands in"):
    source.train.fetch([0])


def test_a_description_of_coarse_labels_has_five_strata_in_each():
  info = dict(train=500, test=100, image=(32, 32, 3), classes=20)
  train = sources.describe("cifar:nowhere?label=coarse", info=info).train
  np.testing.assert_array_equal(np.bincount(train.strata), [5] * 100)
  pairs = set(zip(train.labels.tolist(), train.strata.tolist(), strict=True))
  assert len(pairs) == 100 and train.labels.max() == 19
