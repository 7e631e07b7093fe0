"""IDX, CIFAR and npz files made here, and what is said about broken ones."""

import gzip

import numpy as np
import pytest
from small_data import load, pixels, refused

# IDX


def idx_bytes(array):
  head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes()
  return head + array.tobytes()


@pytest.fixture
def idx_dir(tmp_path):
  data = {"train": (pixels(7, 4, 3), np.arange(7) % 3), "t10k": (pixels(2, 4, 3), np.arange(2))}
  for stem, (images, labels) in data.items():
    labels = idx_bytes(labels.astype(np.uint8))
    (tmp_path / f"{stem}-images-idx3-ubyte").write_bytes(idx_bytes(images))
    (tmp_path / f"{stem}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels))
  return tmp_path, data


def test_idx_reads_plain_and_packed_files(idx_dir):
  path, data = idx_dir
  source = load(f"idx:{path}", (4, 3, 1), 3)
  np.testing.assert_array_equal(source.train.array, data["train"][0][..., None])
  np.testing.assert_array_equal(source.train.labels, data["train"][1])
  np.testing.assert_array_equal(source.train.strata, data["train"][1])
  np.testing.assert_array_equal(source.test.array, data["t10k"][0][..., None])


def test_broken_idx_files_are_refused(idx_dir):
  path, _ = idx_dir
  read = lambda **more: load(f"idx:{path}", (4, 3, 1), 3, **more)
  labels = path / "train-labels-idx1-ubyte.gz"
  labels.write_bytes(labels.read_bytes()[:-9])
  with refused("train-labels-idx1-ubyte.gz is damaged"):
    read()
  packed = gzip.compress(idx_bytes(np.zeros(7, np.uint8)))
  labels.write_bytes(packed[:10] + b"\xff" + packed[11:])
  with refused("train-labels-idx1-ubyte.gz is damaged"):
    read()
  labels.write_bytes(gzip.compress(idx_bytes(np.zeros(6, np.uint8))))
  with refused("has 7 train images but 6 labels"):
    read()
  images = path / "train-images-idx3-ubyte"
  images.write_bytes(images.read_bytes()[:-1])
  with refused(r"should hold \[7, 4, 3\] bytes after its header but holds 83"):
    read()
  images.write_bytes(bytes([0, 0, 8, 3]) + np.array([-7, -4, 3], ">i4").tobytes() + bytes(84))
  with refused("after its header but holds 84"):
    read()
  images.write_bytes(bytes([0, 0, 13, 3]) + bytes(12))  # floats
  with refused("no IDX file of unsigned bytes with 3 dimensions"):
    read()
  images.unlink()
  with refused("needs the file .*train-images-idx3-ubyte or train-images-idx3-ubyte.gz"):
    read()
  with refused("there is no folder 'nowhere'"):
    load("idx:nowhere", (4, 3, 1), 3)


# CIFAR


def cifar_bytes(images, *labels):
  rows = np.concatenate([images[:, :, :, c].reshape(len(images), -1) for c in range(3)], axis=1)
  return np.concatenate([np.stack(labels, 1).astype(np.uint8), rows], axis=1).tobytes()


def test_cifar10_concatenates_the_batches_in_order(tmp_path):
  images, labels = pixels(12, 32, 32, 3), np.arange(12) % 10
  for i in range(5):
    part = slice(2 * i, 2 * i + 2)
    (tmp_path / f"data_batch_{i + 1}.bin").write_bytes(cifar_bytes(images[part], labels[part]))
  (tmp_path / "test_batch.bin").write_bytes(cifar_bytes(images[10:], labels[10:]))
  source = load(f"cifar:{tmp_path}", (32, 32, 3), 10)
  np.testing.assert_array_equal(source.train.array, images[:10])
  np.testing.assert_array_equal(source.test.array, images[10:])
  np.testing.assert_array_equal(source.train.labels, labels[:10])
  with refused(r"\?label= is for CIFAR-100"):
    load(f"cifar:{tmp_path}?label=fine", (32, 32, 3), 10)
  (tmp_path / "data_batch_3.bin").write_bytes(bytes(3000))
  with refused("data_batch_3.bin has 3000 bytes, not a multiple of 3073"):
    load(f"cifar:{tmp_path}", (32, 32, 3), 10)
  (tmp_path / "data_batch_3.bin").unlink()
  with refused("data_batch_3.bin is not there"):
    load(f"cifar:{tmp_path}", (32, 32, 3), 10)


@pytest.mark.parametrize(
  "option, classes", [("", 100), ("?label=fine", 100), ("?label=coarse", 20)]
)
def test_cifar100_has_two_kinds_of_labels(tmp_path, option, classes):
  images, fine = pixels(4, 32, 32, 3), np.array([99, 0, 42, 7])
  coarse = np.array([13, 4, 2, 19])
  for name in ("train.bin", "test.bin"):
    (tmp_path / name).write_bytes(cifar_bytes(images, coarse, fine))
  source = load(f"cifar:{tmp_path}{option}", (32, 32, 3), classes)
  np.testing.assert_array_equal(source.train.labels, fine if classes == 100 else coarse)
  np.testing.assert_array_equal(source.train.strata, fine)
  np.testing.assert_array_equal(source.test.array, images)
  for wrong in ("?label=both", "?labels=fine", "?coarse"):
    with refused(r"source = .*\?label="):
      load(f"cifar:{tmp_path}{wrong}", (32, 32, 3), 100)


# npz


def npz(path, **changes):
  arrays = dict(
    train_images=pixels(5, 4, 4),
    train_labels=np.array([0, 1, 2, 0, 1]),
    test_images=pixels(2, 4, 4, 1),
    test_labels=np.array([2, 0], np.uint8),
  )
  arrays = {k: v for k, v in (arrays | changes).items() if v is not None}
  np.savez(path / "set.npz", **arrays)
  return f"npz:{path}/set.npz", arrays


def test_npz_reads_the_four_arrays(tmp_path):
  name, arrays = npz(tmp_path)
  source = load(name, (4, 4, 1), 3)
  np.testing.assert_array_equal(source.train.array, arrays["train_images"][..., None])
  np.testing.assert_array_equal(source.test.labels, [2, 0])
  assert source.test.labels.dtype == np.int64


def test_a_holdout_needs_no_test_arrays(tmp_path):
  name, _ = npz(tmp_path, test_images=None, test_labels=None)
  assert len(load(name, (4, 4, 1), 3, holdout=2).test.labels) == 2
  with refused(r"lacks the arrays \['test_images', 'test_labels'\]; it holds"):
    load(name, (4, 4, 1), 3)


@pytest.mark.parametrize(
  "changes, match",
  [
    ({"train_images": np.zeros((5, 4, 4))}, "train images must be uint8, not float64"),
    ({"train_labels": np.zeros(5)}, r"train labels must be whole numbers.* float64\[5\]"),
    ({"train_labels": np.zeros((5, 1), int)}, r"one an image, not int64\[5, 1\]"),
    ({"train_labels": np.int64(1)}, r"one an image, not int64\[\]"),
    ({"train_labels": np.array(list("abcab"))}, r"train labels must be whole numbers.* <U1\[5\]"),
    ({"train_labels": np.full(5, np.nan)}, "train labels must be whole numbers"),
    ({"train_labels": np.array([0, 1, 20260101, 2, 0])}, "has 20,260,102 classes, at most"),
    ({"train_images": pixels(5, 0, 4)}, r"one is \(0, 4, 1\)"),
    ({"train_labels": np.zeros(4, int)}, "has 5 train images but 4 labels"),
    ({"train_labels": np.array([0, 1, -1, 2, 0])}, "train labels must be 0 to 2, not -1 to 2"),
    ({"test_labels": np.array([0, 3])}, "source_info.classes = 3: .* has 4 classes"),
    ({"test_images": pixels(2, 5, 4, 1)}, r"the test images of .* are \(5, 4, 1\)"),
    ({"train_images": np.array([None] * 5)}, "no readable npz file of plain arrays"),
    (
      {"train_images": pixels(0, 4, 4), "train_labels": np.zeros(0, int)},
      "holds no train image",
    ),
  ],
)
def test_broken_npz_files_are_refused(tmp_path, changes, match):
  name, _ = npz(tmp_path, **changes)
  with refused(match):
    load(name, (4, 4, 1), 3)


def test_a_damaged_archive_is_refused(tmp_path):
  """What bits that flip leave: a stream that cannot be unpacked, a header that asks a password."""
  name, arrays = npz(tmp_path)
  path = tmp_path / "set.npz"
  np.savez_compressed(path, **arrays)
  whole = path.read_bytes()
  body = whole.index(b"train_images.npy") + len("train_images.npy") + 20  # after the extra field
  path.write_bytes(whole[:body] + b"\xff" + whole[body + 1 :])  # a block of a kind that is none
  with refused("is no readable npz file of plain arrays: Error -3 while decompressing"):
    load(name, (4, 4, 1), 3)
  entry = whole.index(b"PK\1\2") + 8  # the flags in the archive's directory
  path.write_bytes(whole[:entry] + b"\x01" + whole[entry + 1 :])
  with refused("is no readable npz file of plain arrays: .* is encrypted"):
    load(name, (4, 4, 1), 3)


def test_what_is_no_npz_file_is_refused(tmp_path):
  (tmp_path / "a.npz").write_bytes(b"PK no archive")
  np.save(tmp_path / "b.npy", np.zeros(3))
  for file in ("a.npz", "b.npy"):
    with refused("is no readable npz file"):
      load(f"npz:{tmp_path}/{file}", (4, 4, 1), 3)
  with refused("there is no file 'nowhere.npz'"):
    load("npz:nowhere.npz", (4, 4, 1), 3)
