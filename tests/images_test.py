"""Folders of image files made here: classes, colours, shapes, and what is refused."""

import pickle

import numpy as np
import pytest
from PIL import Image
from small_data import load, pixels, refused, save


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
  image = np.stack([y / 3, x / 4, 128 + 90 * np.sin(y / 6)], -1).astype(np.uint8)
  for split in ("train", "test"):
    save(tmp_path / split / "a/1.jpg", image)
  source = load(f"folder:{tmp_path}", (160, 160, 3), 1, resize=True)
  right = image[:, 80:-80].reshape(160, 4, 160, 4, 3).mean((1, 3))
  assert abs(source.train.array[0] - right).max() < 9


def test_palette_images_lose_their_transparency(tmp_path):
  image = Image.fromarray(np.array([[0, 1], [1, 0]], np.uint8), "P")
  image.putpalette([255, 0, 0, 0, 0, 255])
  for split in ("train", "test"):
    (tmp_path / split / "a").mkdir(parents=True)
    image.save(tmp_path / split / "a/1.png", transparency=bytes([9, 128]))
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
