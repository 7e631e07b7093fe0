"""Tiny data sets as `tfds build` prepares them, read without TensorFlow."""

import io
import json
import pickle
import sys

import numpy as np
import pytest
import tensorflow_datasets
from array_record.python.array_record_module import ArrayRecordWriter
from PIL import Image
from small_data import load, pixels, refused


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


def test_tfds_keeps_the_labels_beside_the_records(tfds_dir):
  path = prepare(tfds_dir, pixels(7, 6, 5, 3))
  kept = path / "kdjax_train_label.npy"
  for labels, right in (([2] * 7, [2] * 7), ([2] * 6, [0, 1, 2, 0, 1, 2, 0])):
    np.save(kept, np.array(labels))
    np.testing.assert_array_equal(load("tfds:tiny", (6, 5, 3), 3).train.labels, right)
  np.testing.assert_array_equal(np.load(kept), right)
  assert sorted(p.name for p in path.glob("*.npy")) == [kept.name, "kdjax_validation_label.npy"]


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
  with refused(r"example 0 is \(6, 5, 3\), example 1 is \(7, 5, 3\); set source_info.image and"):
    load("tfds:tiny", (4, 4, 3), 3, holdout=2)
  source = load("tfds:tiny", (4, 4, 3), 3, resize=True, holdout=2, resident_bytes=150)
  assert source.train.array is None and source.test.array is not None  # 192 and 96 bytes
  found = np.concatenate([source.train.fetch(np.arange(4)), source.test.array])
  assert found.shape == (6, 4, 4, 3) and np.all(found == found[:, :1, :1, :1])
  value = found[:, 0, 0, 0].astype(int) // 10
  assert sorted(value) == list(range(6))
  labels = np.concatenate([source.train.labels, source.test.labels])
  np.testing.assert_array_equal(labels, value % 3)


def test_a_record_that_cannot_be_read_is_a_damaged_image(tfds_dir):
  path = prepare(tfds_dir, pixels(6, 6, 5, 3), splits=("train",))
  shard = next(path.glob("*.array_record*"))
  data = bytearray(shard.read_bytes())
  place = data.index(b"IHDR")
  data[place : place + 30] = bytes(30)
  damaged = lambda: shard.write_bytes(data)
  whole = shard.read_bytes()
  damaged()
  with refused("the label of one of the examples 0 to 5 cannot be read: "):
    load("tfds:tiny", (6, 5, 3), 3, holdout=2, resident_bytes=0)
  shard.write_bytes(whole)
  load("tfds:tiny", (6, 5, 3), 3, holdout=2)  # keeps the labels
  damaged()
  with refused("example 0 cannot be read: "):
    load("tfds:tiny", (6, 5, 3), 3, holdout=2, resident_bytes=0)


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
    r"--config=mhd_digits"
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
