"""What is tested is never public; how much is public changes nobody's private data."""

import numpy as np
import pytest

from kdjax import config
from kdjax.configs import mhd_digits
from kdjax.data import dataset
from kdjax.data.example_set import ExampleSet, Source
from kdjax.types import ConfigError

N, HELD = 1_437, 300  # digits' training examples, those that are held out


def opened(given=None, **changes):
  c = mhd_digits.get_config()
  c.update(changes)
  c = config.plain(c)
  if given is None:
    return dataset.open_data(c, (0,))
  return dataset.hand_out(c, given, (0,))


def digits():
  """Digits, their training set alone."""
  return opened().source.train


def written(path):
  train = digits()
  np.savez(
    path,
    train_images=train.array,
    train_labels=train.labels,
    test_images=train.array[:3],
    test_labels=train.labels[:3],
  )


def test_a_public_source_of_the_same_data_is_held_out_from_too():
  """All 300 test images were public before."""
  data = opened(public_source="digits", public_share=1.0, holdout=HELD)
  assert (len(data.source.test.labels), len(data.public.labels)) == (HELD, N - HELD)
  np.testing.assert_array_equal(data.public.array, data.source.train.array)
  np.testing.assert_array_equal(data.shards.public[0], np.arange(N - HELD))
  assert len(data.source.train.labels) == N - HELD == sum(map(len, data.shards.private))


def test_the_same_data_under_another_name_is_refused(tmp_path):
  written(tmp_path / "digits.npz")
  other = f"npz:{tmp_path / 'digits.npz'}"
  hint = "public_source = 'npz:.*holds what `holdout` makes the test set"
  with pytest.raises(ConfigError, match=hint):
    opened(public_source=other, holdout=HELD)
  train = digits()
  given = Source("mine", train, train, 10)
  with pytest.raises(ConfigError, match=hint):
    opened(given, public_source=other, holdout=HELD)
  assert len(opened(public_source=other).public.labels) == N  # the test set is another one


def cifar100(folder, n=400):
  """CIFAR-100's files with n random training images."""
  rng = np.random.default_rng(0)
  for split in ("train", "test"):
    fine = rng.integers(100, size=(n, 1))
    pixels = rng.integers(256, size=(n, 3072))
    folder.mkdir(exist_ok=True)
    np.hstack([fine // 5, fine, pixels]).astype(np.uint8).tofile(folder / f"{split}.bin")


def test_other_labels_of_the_same_examples_are_the_same_data(tmp_path):
  """All test images were public where the two sources differed in `?label=` alone."""
  cifar100(tmp_path)
  coarse, fine = f"cifar:{tmp_path}?label=coarse", f"cifar:{tmp_path}"
  unknown = dict(image=(0, 0, 0), classes=0)
  how = dict(source_info=unknown, public_source_info=unknown, holdout=100, public_share=1.0)
  data = opened(source=coarse, public_source=fine, partition="equal", batch=8, **how)
  assert len(data.public.labels) == 300
  np.testing.assert_array_equal(data.public.array, data.source.train.array)
  with pytest.raises(ConfigError, match="holds what `holdout` makes the test set"):
    opened(source=coarse, public_source=f"cifar:{tmp_path}/", partition="equal", batch=8, **how)


def test_other_data_of_the_same_size_and_labels_is_not(tmp_path):
  written(tmp_path / "digits.npz")
  train = digits()
  turned = ExampleSet(train.labels, train.strata, train.shape, train.array[:, ::-1], None)
  given = Source("turned", turned, turned, 10)
  data = opened(given, public_source=f"npz:{tmp_path / 'digits.npz'}", holdout=HELD)
  assert len(data.public.labels) == N


@pytest.mark.parametrize("limit", [10, 100])
def test_a_limit_of_public_examples_leaves_the_clients_as_they_are(limit):
  whole, few = opened(), opened(public_limit=limit)
  assert [len(d.shards.public[0]) for d in (whole, few)] == [round(0.3 * N), limit]
  assert set(few.shards.public[0]) < set(whole.shards.public[0])
  for a, b in zip(whole.shards.private, few.shards.private, strict=True):
    np.testing.assert_array_equal(a, b)
