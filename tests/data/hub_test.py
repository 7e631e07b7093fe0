"""Data sets of the `datasets` library, made here: from a folder and from its cache."""

import json
import pickle
import sys

import numpy as np
import pytest
from PIL import Image
from small_data import load, pixels, refused

FACTS = (0, 0, 0), 0  # none are given


@pytest.fixture(scope="module")
def library():
  datasets = pytest.importorskip("datasets")
  datasets.disable_progress_bars()
  return datasets


def images(library, n):
  features = {"picture": library.Image(), "kind": library.ClassLabel(names=["a", "b", "c"])}
  array = pixels(n, 5, 4, 3)
  columns = {"picture": [Image.fromarray(x) for x in array], "kind": [i % 2 for i in range(n)]}
  return library.Dataset.from_dict(columns, library.Features(features)), array


def table(library):
  columns = {"age": [3, 4, 5], "label": [1, 0, 1], "sound": [[0.5, 1.0], [2.0, 3.0], [4.0, 5.0]]}
  return library.Dataset.from_dict(columns), np.float32([[3, 0.5, 1], [4, 2, 3], [5, 4, 5]])


@pytest.mark.parametrize("resident_bytes", [2**20, 0])
def test_images_of_a_saved_folder(library, tmp_path, resident_bytes):
  train, array = images(library, 5)
  splits = {"train": train, "validation": train.select([4, 2])}
  library.DatasetDict(splits).save_to_disk(tmp_path)
  source = load(f"hf:{tmp_path}", *FACTS, resident_bytes=resident_bytes)
  assert source.classes == 3 and source.train.shape == (5, 4, 3)
  assert (source.train.array is None) == (resident_bytes == 0)
  copy = pickle.loads(pickle.dumps(source))  # as a worker process receives it
  np.testing.assert_array_equal(copy.train.fetch(np.array([3, 0])), array[[3, 0]])
  np.testing.assert_array_equal(source.test.fetch(np.array([0, 1])), array[[4, 2]])
  np.testing.assert_array_equal(source.test.labels, [0, 0])
  assert load(f"hf:{tmp_path}", (2, 2, 3), 3, resize=True).train.shape == (2, 2, 3)
  with refused(r"source_info.image = \(5, 4, 1\): example 0 has colours"):
    load(f"hf:{tmp_path}", (5, 4, 1), 3)


def test_columns_of_numbers_are_features(library, tmp_path):
  rows, expected = table(library)
  rows.save_to_disk(tmp_path)
  source = load(f"hf:{tmp_path}", *FACTS, holdout=1)
  found = np.concatenate([source.train.array, source.test.array])
  assert found.dtype == np.float32
  np.testing.assert_array_equal(found[found[:, 0].argsort()], expected)
  by_age = load(f"hf:{tmp_path}?label=age", *FACTS, holdout=1)
  assert by_age.classes == 6 and by_age.train.shape == (3,)
  with refused("has no test split, only"):
    load(f"hf:{tmp_path}", *FACTS)


@pytest.mark.parametrize(
  "columns, match",
  [
    ({"a": [1.0, 2.0], "b": [0, 1]}, r"has no column 'label'; choose one with \?label=NAME"),
    ({"a": [1.0, 2.0], "label": ["x", "y"]}, "'label' holds no class numbers"),
    ({"a": ["x", "y"], "label": [0, 1]}, "'a' holds no numbers"),
    ({"a": [[1.0], [1.0, 2.0]], "label": [0, 1]}, "'a' holds no numbers or lists of one length"),
    ({"a": [1.0, None], "label": [0, 1]}, "train row 1, feature 0 is nan"),
    ({"label": [0, 1]}, "has no column beside its labels"),
  ],
)
def test_what_is_no_table_is_refused(library, tmp_path, columns, match):
  library.Dataset.from_dict(columns).save_to_disk(tmp_path)
  with refused(match):
    load(f"hf:{tmp_path}", *FACTS, holdout=1)


def cached(library, root, config):
  """Puts a table where `load_dataset('someone/numbers', config)` leaves it."""
  rows, expected = table(library)
  place = root / "someone___numbers" / config / "0.0.0" / "abc"
  place.parent.mkdir(parents=True)
  rows.to_parquet(root / "rows.parquet")
  made = library.load_dataset(
    "parquet", data_files={"train": str(root / "rows.parquet")}, cache_dir=str(root / "made")
  )
  (file,) = {f["filename"] for f in made["train"].cache_files}
  folder = type(root)(file).parent
  folder.rename(place)
  (place / "parquet-train.arrow").rename(place / "numbers-train.arrow")
  info = json.loads((place / "dataset_info.json").read_text())
  info |= {"dataset_name": "numbers", "config_name": config}
  (place / "dataset_info.json").write_text(json.dumps(info))
  return expected


def test_a_data_set_in_the_cache_is_read_without_a_network(library, tmp_path, monkeypatch):
  monkeypatch.setattr(library.config, "HF_DATASETS_CACHE", tmp_path)
  expected = cached(library, tmp_path, "small")
  for name in ("hf:someone/numbers", "hf:someone/numbers/small"):
    source = load(name, *FACTS, holdout=1)
    found = np.concatenate([source.train.array, source.test.array])
    np.testing.assert_array_equal(found[found[:, 0].argsort()], expected)
  cached(library, tmp_path, "large")
  with refused("multiple .*configurations in the cache: .*small"):
    load("hf:someone/numbers", *FACTS, holdout=1)
  for name in ("hf:nobody/nothing", "hf:nothing", "hf:someone/numbers/tiny"):
    with refused("is neither a folder nor in the cache of datasets .*load_dataset"):
      load(name, *FACTS, holdout=1)
  with refused("name a data set: hf:NAME"):
    load("hf:", *FACTS)


def test_without_the_package_it_says_what_to_install(monkeypatch):
  monkeypatch.setitem(sys.modules, "datasets", None)
  with refused(r"pip install 'kdjax\[hf\]'"):
    load("hf:mnist", *FACTS)
