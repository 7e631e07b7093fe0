"""Sources read from tiny files made here, in every format, and what is said about broken ones."""

import dataclasses
import functools
import gzip
import io
import json
import pickle
import sys

import numpy as np
import pytest
import tensorflow_datasets
from array_record.python.array_record_module import ArrayRecordWriter
from PIL import Image

from kdjax.data import sources
from kdjax.types import ConfigError

rng = np.random.default_rng(0)


def load(name, image, classes, holdout=0, resident_bytes=2**30, **more):
  info = dict(train=1, test=1, image=image, classes=classes) | more
  return sources.load(name, info=info, holdout=holdout, resident_bytes=resident_bytes)


def refused(match):
  return pytest.raises(ConfigError, match=match)


def pixels(*shape):
  return rng.integers(0, 256, shape, dtype=np.uint8)


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
  np.testing.assert_array_equal(source.test.labels[:8], [1, 3, 5, 8, 7, 9, 5, 5])
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
  with refused("source_info.train = 0: a whole number, at least 1"):
    load("digits", (8, 8, 1), 10, train=0)
  with refused("source_info.classes = None"):
    sources.describe("digits", info={"train": 1, "test": 1, "image": (8, 8, 1)})


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
  labels.write_bytes(gzip.compress(idx_bytes(np.zeros(6, np.uint8))))
  with refused("has 7 train images but 6 labels"):
    read()
  images = path / "train-images-idx3-ubyte"
  images.write_bytes(images.read_bytes()[:-1])
  with refused(r"should hold \[7, 4, 3\] bytes after its header but holds 83"):
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


def test_what_is_no_npz_file_is_refused(tmp_path):
  (tmp_path / "a.npz").write_bytes(b"PK no archive")
  np.save(tmp_path / "b.npy", np.zeros(3))
  for file in ("a.npz", "b.npy"):
    with refused("is no readable npz file"):
      load(f"npz:{tmp_path}/{file}", (4, 4, 1), 3)
  with refused("there is no file 'nowhere.npz'"):
    load("npz:nowhere.npz", (4, 4, 1), 3)


# Folders


def save(path, array):
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(array).save(path)


@pytest.fixture
def folder_dir(tmp_path):
  images = {
    f"{s}/{c}/{i}.png": pixels(6, 4, 3) for s in ("train", "test") for c in "ba" for i in "21"
  }
  for name, image in images.items():
    save(tmp_path / name, image)
  (tmp_path / "train/a/notes.txt").write_text("no image")
  (tmp_path / "train/.hidden").mkdir()
  return tmp_path, images


@pytest.mark.parametrize("resident_bytes", [2**20, 0])
def test_folder_numbers_sorted_classes(folder_dir, resident_bytes):
  path, images = folder_dir
  source = load(f"folder:{path}", (6, 4, 3), 2, resident_bytes=resident_bytes)
  names = ["train/a/1.png", "train/a/2.png", "train/b/1.png", "train/b/2.png"]
  np.testing.assert_array_equal(source.train.labels, [0, 0, 1, 1])
  right = np.stack([images[name] for name in names])
  np.testing.assert_array_equal(source.train.fetch(np.array([3, 0, 3])), right[[3, 0, 3]])
  assert (source.train.array is None) == (resident_bytes == 0)
  assert (source.train.read is None) == (resident_bytes > 0)
  copy = pickle.loads(pickle.dumps(source.train))  # as a worker process receives it
  np.testing.assert_array_equal(copy.fetch([1, 2]), right[1:3])


def test_the_number_of_channels_decides_about_colour(folder_dir):
  path, images = folder_dir
  source = load(f"folder:{path}", (6, 4, 1), 2)
  right = np.asarray(Image.fromarray(images["train/a/1.png"]).convert("L"))
  np.testing.assert_array_equal(source.train.array[0, ..., 0], right)
  with refused(r"source_info.image = \(6, 4, 2\): the last number must be 1 or 3"):
    load(f"folder:{path}", (6, 4, 2), 2)


def test_a_holdout_of_a_folder_that_stays_on_disk(folder_dir):
  path, _ = folder_dir
  whole = load(f"folder:{path}", (6, 4, 3), 2)
  (path / "test").rename(path / "unused")
  part = load(f"folder:{path}", (6, 4, 3), 2, holdout=1, resident_bytes=0)
  rest = np.concatenate([part.train.fetch(np.arange(3)), part.test.fetch([0])])
  labels = np.concatenate([part.train.labels, part.test.labels])
  at = [np.flatnonzero((whole.train.array == x).all((1, 2, 3))).item() for x in rest]
  assert sorted(at) == [0, 1, 2, 3]
  np.testing.assert_array_equal(labels, whole.train.labels[at])
  pickle.dumps(part.train)


def test_images_of_different_shapes_need_resize(folder_dir):
  path, _ = folder_dir
  flat = np.tile(np.array([10, 200, 30], np.uint8), (12, 20, 1))
  flat[:, :5], flat[:, -5:] = 0, 255  # the 8 columns in the centre and one beside them stay
  save(path / "train/a/2.png", flat)
  for resident_bytes in (2**20, 0):
    with refused(r"a/1.png is \(6, 4, 3\), .*a/2.png is \(12, 20, 3\); set source_info.resize"):
      load(f"folder:{path}", (6, 4, 3), 2, resident_bytes=resident_bytes)
  source = load(f"folder:{path}", (6, 4, 3), 2, resize=True)
  np.testing.assert_array_equal(source.train.array[1], flat[:6, 6:10])
  with refused(r"the train images of .* are \(6, 4, 3\)"):
    save(path / "train/a/2.png", flat[:6, 6:10])
    load(f"folder:{path}", (5, 4, 3), 2)


def test_a_jpeg_that_is_decoded_small_looks_like_one_decoded_whole(tmp_path):
  y, x = np.mgrid[:640, :800]
  image = np.stack([y / 3, x / 4, 128 + 90 * np.sin(y / 70) * np.cos(x / 90)], -1).astype(np.uint8)
  for split in ("train", "test"):
    save(tmp_path / split / "a/1.jpg", image)
  source = load(f"folder:{tmp_path}", (64, 64, 3), 1, resize=True)
  right = image[:, 80:-80].reshape(64, 10, 64, 10, 3).mean((1, 3))
  assert abs(source.train.array[0] - right).max() < 6


def test_palette_images_lose_their_transparency(tmp_path):
  image = Image.fromarray(np.array([[0, 1], [1, 0]], np.uint8), "P")
  image.putpalette([255, 0, 0, 0, 0, 255])
  for split in ("train", "test"):
    (tmp_path / split / "a").mkdir(parents=True)
    image.save(tmp_path / split / "a/1.png", transparency=bytes([0, 255]))
  array = load(f"folder:{tmp_path}", (2, 2, 3), 1).train.array[0]
  red, blue = [255, 0, 0], [0, 0, 255]
  np.testing.assert_array_equal(array, [[red, blue], [blue, red]])


@pytest.mark.parametrize(
  "break_it, match",
  [
    (lambda p: (p / "test").rename(p / "val"), "needs the folders .*test is not there"),
    (lambda p: (p / "test/a").rename(p / "test/c"), r"the same classes; \['a', 'c'\] are not"),
    (
      lambda p: [(p / s / "c").mkdir() for s in ("train", "test")],
      "train/c holds no image; files must end in .jpg",
    ),
    (lambda p: (p / "train/b/1.png").write_bytes(b"GIF"), "b/1.png is no image that Pillow can"),
    (lambda p: save(p / "train/b/1.png", np.zeros((6, 4), np.uint16)), "more than 8 bits"),
  ],
)
def test_broken_folders_are_refused(folder_dir, break_it, match):
  path, _ = folder_dir
  break_it(path)
  with refused(match):
    load(f"folder:{path}", (6, 4, 3), 2)


# TFDS


def varint(n):
  return bytes([n]) if n < 128 else bytes([n & 127 | 128]) + varint(n >> 7)


def field(number, payload):
  return varint(number << 3 | 2) + varint(len(payload)) + payload


def example(image, **labels):
  """A tf.train.Example on the wire: a map<string, Feature> of bytes (1) and whole numbers (3)."""
  entry = lambda key, feature: field(1, field(1, key.encode()) + field(2, feature))
  file = io.BytesIO()
  Image.fromarray(image).save(file, "PNG")
  entries = entry("image", field(1, field(1, file.getvalue())))
  for key, label in labels.items():
    entries += entry(key, field(3, field(1, varint(label))))
  return field(1, entries)


def prepare(root, images, *, name="tiny", version="1.0.0", splits=("train", "validation")):
  """Writes what `tfds build` writes; each split holds `images`, of label i % 3 and coarse i % 2."""
  path = root / name / version
  path.mkdir(parents=True)
  for split in splits:
    file = path / f"{name.partition('/')[0]}-{split}.array_record-00000-of-00001"
    writer = ArrayRecordWriter(str(file), "group_size:1")
    for i, image in enumerate(images):
      writer.write(example(image, label=i % 3, coarse=i % 2))
    writer.close()
  f = tensorflow_datasets.features
  features = {"image": f.Image(shape=(None, None, 3)), "label": f.ClassLabel(num_classes=3)}
  f.FeaturesDict(features | {"coarse": f.ClassLabel(num_classes=2)}).save_config(path)
  template = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
  split = {"shardLengths": [str(len(images))], "numBytes": "1", "filepathTemplate": template}
  keys = [{"featureKey": "image"}, {"featureKey": "label"}]
  info = {
    "name": name.partition("/")[0],
    "version": version,
    "fileFormat": "array_record",
    "splits": [split | {"name": s} for s in splits],
    "supervisedKeys": {"tuple": {"items": keys}},
  }
  (path / "dataset_info.json").write_text(json.dumps(info))
  return path


@pytest.fixture
def tfds_dir(tmp_path, monkeypatch):
  monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
  return tmp_path


@pytest.mark.parametrize("resident_bytes", [2**20, 0])
def test_tfds_reads_prepared_files_without_tensorflow(tfds_dir, resident_bytes):
  images = pixels(7, 6, 5, 3)
  path = prepare(tfds_dir, images)
  for _ in range(2):  # the second time the labels come from the file beside the records
    source = load("tfds:tiny", (6, 5, 3), 3, resident_bytes=resident_bytes)
    np.testing.assert_array_equal(source.train.labels, np.arange(7) % 3)
    assert (path / "kdjax_train_label.npy").exists()
  np.testing.assert_array_equal(source.train.fetch(np.array([6, 0, 6])), images[[6, 0, 6]])
  np.testing.assert_array_equal(source.test.fetch(np.arange(7)), images)
  assert (source.train.array is None) == (resident_bytes == 0)
  np.testing.assert_array_equal(pickle.loads(pickle.dumps(source.train)).fetch([3]), images[[3]])
  assert "tensorflow" not in sys.modules


def test_tfds_takes_other_labels_and_counts_by_its_own(tfds_dir):
  prepare(tfds_dir, pixels(7, 6, 5, 3))
  source = load("tfds:tiny?label=coarse", (6, 5, 3), 2)
  np.testing.assert_array_equal(source.train.labels, np.arange(7) % 2)
  np.testing.assert_array_equal(source.train.strata, np.arange(7) % 3)
  with refused(r"has no feature 'fine', only \['coarse', 'image', 'label'\]"):
    load("tfds:tiny?label=fine", (6, 5, 3), 2)


def test_tfds_resizes_and_takes_a_holdout(tfds_dir):
  images = [np.full((6 + i, 5, 3), 10 * i, np.uint8) for i in range(6)]
  prepare(tfds_dir, images, splits=("train",))
  with refused(r"has no validation split, only \['train'\]; holdout=n"):
    load("tfds:tiny", (4, 4, 3), 3, resize=True)
  with refused(r"example 0 is \(6, 5, 3\), example 1 is \(7, 5, 3\); set source_info.resize"):
    load("tfds:tiny", (4, 4, 3), 3, holdout=2)
  source = load("tfds:tiny", (4, 4, 3), 3, resize=True, holdout=2, resident_bytes=150)
  assert source.train.array is None and source.test.array is not None  # 192 and 96 bytes
  found = np.concatenate([source.train.fetch(np.arange(4)), source.test.array])
  assert found.shape == (6, 4, 4, 3) and np.all(found == found[:, :1, :1, :1])
  value = found[:, 0, 0, 0].astype(int) // 10
  assert sorted(value) == list(range(6))
  labels = np.concatenate([source.train.labels, source.test.labels])
  np.testing.assert_array_equal(labels, value % 3)


def test_tfds_takes_the_newest_version_unless_told(tfds_dir):
  for version, shade in (("1.9.0", 1), ("1.10.0", 2)):
    prepare(tfds_dir, np.full((3, 6, 5, 3), shade, np.uint8), version=version)
  assert load("tfds:tiny", (6, 5, 3), 3).train.array.max() == 2
  assert load("tfds:tiny:1.9.0", (6, 5, 3), 3).train.array.max() == 1
  for config in ("small", "large"):
    prepare(tfds_dir, pixels(3, 6, 5, 3), name=f"other/{config}")
  assert len(load("tfds:other/small", (6, 5, 3), 3).train.labels) == 3
  with refused(r"several configurations; name one: \['other/large', 'other/small'\]"):
    load("tfds:other", (6, 5, 3), 3)


def test_tfds_says_how_to_prepare_what_is_not_there(tfds_dir):
  with refused(
    r"(?s)'kdjax\[prepare\]'.*tfds build mnist --file_format=array_record --data_dir=.*"
    r"--config=configs/mhd_digits.py"
  ) as caught:
    load("tfds:mnist", (28, 28, 1), 10)
  assert str(tfds_dir) in str(caught.value) and "by hand" not in str(caught.value)
  with refused(r"(?s)ILSVRC2012_img_train.tar .*downloads/manual by hand.*tfds build imagenet2012"):
    load("tfds:imagenet2012", (224, 224, 3), 1000)
  with refused("no ArrayRecord files"):
    load("tfds:", (28, 28, 1), 10)
  path = prepare(tfds_dir, pixels(3, 6, 5, 3))
  info = json.loads((path / "dataset_info.json").read_text()) | {"fileFormat": "tfrecord"}
  (path / "dataset_info.json").write_text(json.dumps(info))
  with refused(rf"tfds convert_format --dataset_version_dir={path} --out_file_format=array_record"):
    load("tfds:tiny", (6, 5, 3), 3)


# The user's own code


def toy(labels=(0, 1, 0), **changes):
  labels = np.array(labels, np.int32)
  images = sources.ImageSet(
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
  source = load("kdjax_test_package.toys", (2, 2, 1), 2, holdout=1)
  assert len(source.train.labels) == 2 and source.train.labels.dtype == np.int64
  lazy = functools.partial(load, "kdjax_test_package.toys:lazy", (2, 2, 1), 2)
  assert lazy().train.array.tolist() == np.full((3, 2, 2, 1), 7).tolist()
  assert lazy(resident_bytes=1).train.array is None


@pytest.mark.parametrize(
  "name, make, match",
  [
    ("kdjax_test_package.toys:lod", toy, "has no function 'lod'"),
    ("kdjax_test_package.nothing", toy, "no module 'kdjax_test_package.nothing' on the Python"),
    ("no_such_package.toys", toy, "no module 'no_such_package' on the Python path"),
    ("kdjax_test_package.toys", lambda: 3, "must return a kdjax.data.sources.Source, not int"),
    ("kdjax_test_package.toys", lambda: toy((0, 1, 5)), "train labels must be 0 to 1, not 0 to 5"),
    (
      "kdjax_test_package.toys",
      lambda: toy(strata=np.zeros(2, int)),
      "3 train labels but 2 strata",
    ),
    ("kdjax_test_package.toys", lambda: toy(shape=(3, 3, 1)), r"source_info.image = \(2, 2, 1\)"),
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
