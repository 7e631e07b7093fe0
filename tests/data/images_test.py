"""Folders of image files made here: classes, colours, shapes, and what is refused."""

import io
import pickle

import numpy as np
import pytest
from PIL import Image
from small_data import load, pixels, refused, save

from kdjax.data import images as images_module


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
  with refused(r"source_info.image = \(6, 4, 1\): .*a/1.png has colours: .*source_info.grey=True"):
    load(f"folder:{path}", (6, 4, 1), 2)
  source = load(f"folder:{path}", (6, 4, 1), 2, grey=True)
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
    with refused(r"a/1.png is \(6, 4, 3\), .*a/2.png is \(12, 20, 3\); set source_info.image and"):
      load(f"folder:{path}", (6, 4, 3), 2, resident_bytes=resident_bytes)
  source = load(f"folder:{path}", (6, 4, 3), 2, resize=True)
  np.testing.assert_array_equal(source.train.array[1], flat[:6, 6:10])
  with refused(r"the train images of .* are \(6, 4, 3\)"):
    save(path / "train/a/2.png", flat[:6, 6:10])
    load(f"folder:{path}", (5, 4, 3), 2)


DECODERS = [
  "pillow",
  pytest.param("opencv", marks=pytest.mark.skipif(images_module._cv2() is None, reason="no cv2")),
]


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_jpeg_that_is_decoded_small_looks_like_one_decoded_whole(decoder, tmp_path):
  y, x = np.mgrid[:640, :800]
  image = np.stack([y / 3, x / 4, 128 + 90 * np.sin(y / 6)], -1).astype(np.uint8)
  for split in ("train", "test"):
    save(tmp_path / split / "a/1.jpg", image)
  source = load(f"folder:{tmp_path}", (160, 160, 3), 1, resize=True, decoder=decoder)
  right = image[:, 80:-80].reshape(160, 4, 160, 4, 3).mean((1, 3))
  assert abs(source.train.array[0] - right).max() < 9


def jpeg(image, **options):
  file = io.BytesIO()
  Image.fromarray(image).save(file, "JPEG", **options)
  return file.getvalue()


def decoded(data, decoder, channels=3, size=None):
  return images_module.decode("s", "it", io.BytesIO(data), channels, size, decoder)


@pytest.fixture
def opencv():
  pytest.importorskip("cv2")


def test_decoders_agree_to_the_bit_where_nothing_is_resized(opencv, monkeypatch):
  smooth = Image.fromarray(pixels(8, 8, 3)).resize((75, 50), Image.Resampling.BICUBIC)
  turned = Image.Exif()
  turned[0x0112] = 6  # the file says that it lies on its side
  taken, real = [], images_module._opencv
  monkeypatch.setattr(
    images_module, "_opencv", lambda *a: taken.append(real(*a) is not None) or real(*a)
  )
  for options in ({}, dict(subsampling=0), dict(progressive=True), dict(exif=turned)):
    data = jpeg(np.asarray(smooth), quality=90, **options)
    np.testing.assert_array_equal(decoded(data, "opencv"), decoded(data, "pillow"))
  grey = jpeg(np.asarray(smooth.convert("L")))
  np.testing.assert_array_equal(decoded(grey, "opencv"), decoded(grey, "pillow"))
  np.testing.assert_array_equal(decoded(grey, "opencv", 1), decoded(grey, "pillow", 1))
  assert taken == [True] * 6


@pytest.mark.parametrize("shape", [(60, 80), (80, 60), (33, 128), (20, 20), (64, 64), (10, 12)])
def test_opencv_resizes_what_pillow_does(opencv, shape):
  """Smooth images: where the two crop and scale alike, their pixels are close."""
  y, x = np.mgrid[: shape[0], : shape[1]] / max(shape)
  image = np.stack([255 * y, 255 * x, 128 + 100 * np.sin(3 * x + 2 * y)], -1).astype(np.uint8)
  data = jpeg(image, quality=98)
  for size in ((32, 32), (24, 32)):
    a, b = (decoded(data, d, size=size).astype(int) for d in ("opencv", "pillow"))
    assert a.shape == (*size, 3) and abs(a - b).max() <= 255 / min(shape) + 6


def test_what_opencv_does_not_take_pillow_decodes_or_refuses(opencv):
  image = pixels(9, 7, 3)
  for form, mode in (("PNG", "RGB"), ("JPEG", "CMYK"), ("BMP", "RGB")):
    file = io.BytesIO()
    Image.fromarray(image).convert(mode).save(file, form)
    data = file.getvalue()
    np.testing.assert_array_equal(decoded(data, "opencv"), decoded(data, "pillow"))
    assert images_module._jpeg_size(data) is None
  whole = jpeg(pixels(64, 64, 3))
  assert images_module._jpeg_size(whole) == (64, 64)
  for broken in (whole[: len(whole) // 2], whole[:20], b"", b"\xff\xd8\xff\xd9"):
    with refused("it is no image that Pillow can read"):
      decoded(broken, "opencv")


def test_the_config_says_which_decoder_not_what_is_installed(folder_dir, monkeypatch):
  path, _ = folder_dir
  with refused("source_info.decoder = 'turbo': one of pillow, opencv"):
    load(f"folder:{path}", (6, 4, 3), 2, decoder="turbo")
  with refused(r"source_info.decoder = 'opencv': pillow: only .* decode and resize, not 'digits'"):
    load("digits", (8, 8, 1), 10, decoder="opencv")
  monkeypatch.setattr(images_module, "_cv2", lambda: None)
  with refused(r"source_info.decoder = 'opencv': pip install 'kdjax\[jpeg\]'"):
    load(f"folder:{path}", (6, 4, 3), 2, decoder="opencv")


def test_palette_images_lose_their_transparency(tmp_path):
  image = Image.fromarray(np.array([[0, 1], [1, 0]], np.uint8), "P")
  image.putpalette([255, 0, 0, 0, 0, 255])
  for split in ("train", "test"):
    (tmp_path / split / "a").mkdir(parents=True)
    image.save(tmp_path / split / "a/1.png", transparency=bytes([9, 128]))
  array = load(f"folder:{tmp_path}", (2, 2, 3), 1).train.array[0]
  red, blue = [255, 0, 0], [0, 0, 255]
  np.testing.assert_array_equal(array, [[red, blue], [blue, red]])


def test_files_that_are_left_out_are_counted_once(folder_dir, capsys):
  path, _ = folder_dir
  (path / "train/b/2.jfif").write_bytes(b"an image, for all one knows")
  (path / "train/b/.DS_Store").write_bytes(b"")
  for _ in range(2):
    load(f"folder:{path}", (6, 4, 3), 2)
  (line,) = capsys.readouterr().err.splitlines()
  assert f"{path}/train: 2 files that do not end in .jpg, " in line


@pytest.mark.parametrize(
  "break_it, match",
  [
    (
      lambda p: (p / "train/b/more").mkdir(),
      "train/b holds the folder 'more': a class is a folder of files",
    ),
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


# The shape of the files themselves


def test_a_folder_of_one_size_needs_no_shape(folder_dir):
  path, images = folder_dir
  source = load(f"folder:{path}", (0, 0, 0), 0)
  assert source.train.shape == (6, 4, 3) and source.classes == 2
  np.testing.assert_array_equal(source.train.array[0], images["train/a/1.png"])
  save(path / "train/b/2.png", pixels(6, 5, 3))
  with refused(
    r"a/1.png is \(6, 4, 3\), .*b/2.png is \(6, 5, 3\); set source_info.image and source"
  ):
    load(f"folder:{path}", (0, 0, 0), 0)
  with refused(r"source_info.image = \(0, 0, 0\): the \(height, width, channels\) to resize to"):
    load(f"folder:{path}", (0, 0, 0), 0, resize=True)


@pytest.mark.parametrize("mode, c", [("L", 1), ("1", 1), ("LA", 1), ("P", 3), ("CMYK", 3)])
def test_the_files_say_how_many_channels_there_are(tmp_path, mode, c):
  one = Image.fromarray(pixels(4, 5, 3)).convert(mode)
  for split in ("train", "test"):
    (tmp_path / split / "a").mkdir(parents=True)
    one.save(tmp_path / split / "a/1.tif")
  assert load(f"folder:{tmp_path}", (0, 0, 0), 1).train.shape == (4, 5, c)


def test_a_palette_of_greys_is_grey_and_grey_files_may_be_read_as_colours(tmp_path):
  one = Image.fromarray(np.array([[0, 1], [1, 0]], np.uint8), "P")
  one.putpalette([7, 7, 7, 90, 90, 90])
  for split in ("train", "test"):
    (tmp_path / split / "a").mkdir(parents=True)
    one.save(tmp_path / split / "a/1.png")
  grey = np.array([[7, 90], [90, 7]])
  np.testing.assert_array_equal(
    load(f"folder:{tmp_path}", (0,) * 3, 0).train.array[0, ..., 0], grey
  )
  colours = load(f"folder:{tmp_path}", (2, 2, 3), 0).train.array[0]
  np.testing.assert_array_equal(colours, np.stack([grey] * 3, -1))


def test_one_colour_image_among_grey_ones_makes_a_set_of_colours(folder_dir):
  path, _ = folder_dir
  for split in ("train", "test"):
    for c in "ab":
      save(path / f"{split}/{c}/1.png", pixels(6, 4))
  assert load(f"folder:{path}", (0, 0, 0), 0).train.shape == (6, 4, 3)
