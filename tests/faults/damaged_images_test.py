"""Damaged images: found by name before anything is written; later replaced, counted, or the end."""

import io
import json
import struct
import zlib

import jax
import numpy as np
import pytest
from PIL import Image

from kdjax import api
from kdjax.data import example_set, sources, unreadable
from kdjax.types import ConfigError, TrainingError

SHAPE = (24, 20, 3)
STEPS = 8


def bytes_of(array, form, mode="RGB", **options):
  file = io.BytesIO()
  Image.fromarray(array).convert(mode).save(file, form, **options)
  return file.getvalue()


def picture(seed):
  return np.random.default_rng(seed).integers(0, 256, SHAPE, np.uint8)


def png_header(width, height):
  """A PNG that says how large it is, and holds next to nothing."""
  chunk = lambda kind, data: (
    struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
  )
  size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
  parts = ((b"IHDR", size), (b"IDAT", zlib.compress(bytes(100))), (b"IEND", b""))
  return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def jpeg_header(width, height):
  """A JPEG that says how large it is."""
  frame = struct.pack(">BHHB", 8, height, width, 3) + bytes((1, 17, 0, 2, 17, 0, 3, 17, 0))
  return b"\xff\xd8\xff\xc0" + struct.pack(">H", 2 + len(frame)) + frame + b"\xff\xd9"


PNG, JPEG = bytes_of(picture(7), "PNG"), bytes_of(picture(7), "JPEG", quality=95)
SMALL = picture(7)[:12]
REFUSED = {
  **{f"PNG cut to {n} %": ("png", PNG[: len(PNG) * n // 100]) for n in (1, 10, 50, 90)},
  **{f"JPEG cut to {n} %": ("jpg", JPEG[: len(JPEG) * n // 100]) for n in (1, 10, 50, 90)},
  "PNG of no bytes": ("png", b""),
  "JPEG of no bytes": ("jpg", b""),
  "text": ("png", b"not an image at all"),
  "zeros": ("jpg", bytes(2000)),
  "a web page": ("jpg", b"<!DOCTYPE html><html></html>"),
  "PNG bomb": ("png", png_header(15_000, 15_000)),
  "JPEG bomb": ("jpg", jpeg_header(60_000, 60_000)),
  "PNG of no pixels": ("png", png_header(0, 0)),
  "PNG whose header lies": ("png", PNG[:16] + struct.pack(">II", 24, 20) + PNG[24:]),
  "16 bits": ("png", bytes_of(picture(7)[..., 0].astype(np.uint16) * 255, "PNG", "I;16")),
  "another size": ("png", bytes_of(SMALL, "PNG")),
  "GIF cut": ("gif", bytes_of(picture(7), "GIF")[:60]),
  "BMP cut": ("bmp", bytes_of(picture(7), "BMP")[:200]),
  "TIFF cut": ("tif", bytes_of(picture(7), "TIFF")[:100]),
}
FRAMES = [Image.fromarray(picture(s)) for s in (8, 9)]
ANIMATION = io.BytesIO()
Image.fromarray(picture(7)).save(ANIMATION, "GIF", save_all=True, append_images=FRAMES)
ACCEPTED = {
  "CMYK": ("jpg", bytes_of(picture(7), "JPEG", "CMYK")),
  "grey": ("png", bytes_of(picture(7), "PNG", "L")),
  "grey and alpha": ("png", bytes_of(picture(7), "PNG", "LA")),
  "alpha": ("png", bytes_of(picture(7), "PNG", "RGBA")),
  "palette": ("png", bytes_of(picture(7), "PNG", "P")),
  "one bit": ("png", bytes_of(picture(7), "PNG", "1")),
  "an animation": ("gif", ANIMATION.getvalue()),
  "progressive": ("jpg", bytes_of(picture(7), "JPEG", progressive=True)),
  "more behind its end": ("jpg", JPEG + bytes(10)),
  "all pixels, but not the end": ("png", PNG[:-12]),
}


def folder(path, n=12, count=2):
  """`count` classes of n training images and two test images each."""
  for split, many in (("train", n), ("test", 2)):
    for c in range(count):
      place = path / split / f"class{c}"
      place.mkdir(parents=True)
      for i in range(many):
        (place / f"{i:03}.png").write_bytes(bytes_of(picture(100 * c + i), "PNG"))
  return path


def opened(path, resident_bytes, **more):
  info = dict(train=0, test=0, image=SHAPE, classes=2) | more
  return sources.open_source(f"folder:{path}", info=info, holdout=0, resident_bytes=resident_bytes)


def placed(path, kinds):
  """(kind, place, bytes) of one file after the other, each there until the next is asked for."""
  for name, (suffix, data) in kinds.items():
    place = path / "train/class1" / f"999.{suffix}"
    place.write_bytes(data)
    yield name, place, data
    place.unlink()


@pytest.mark.parametrize("resident_bytes", [0, 2**30], ids=["read", "resident"])
def test_every_damage_is_found_by_name_before_a_run(resident_bytes, tmp_path):
  path = folder(tmp_path)
  for name, place, _ in placed(path, REFUSED):
    try:
      opened(path, resident_bytes)
    except ConfigError as error:
      said = str(error)
    else:
      said = "accepted"
    assert said.startswith("source = ") and str(place) in said and "\n" not in said, (name, said)


@pytest.mark.parametrize("resident_bytes", [0, 2**30], ids=["read", "resident"])
def test_other_modes_are_read_as_before(resident_bytes, tmp_path):
  path = folder(tmp_path)
  for name, _, data in placed(path, ACCEPTED):
    last = opened(path, resident_bytes).train.fetch(np.array([24]))[0]
    with Image.open(io.BytesIO(data)) as image:
      right = np.asarray(image.convert("RGB"))
    assert name in ("alpha", "grey and alpha") or (last == right).all(), name


def test_all_are_counted_and_the_first_are_named(tmp_path):
  path = folder(tmp_path, n=1200, count=1)  # more than are looked at as a sample
  for i in (3, 333, 777, 1001, 1199):
    (path / f"train/class0/{i:03}.png").write_bytes(b"")
  for resident_bytes in (0, 2**30):
    match = "003.png .*1001.png .*1199.png .*; 5 of 1,200 images are so"  # as names sort
    with pytest.raises(ConfigError, match=match):
      opened(path, resident_bytes, classes=1)


def test_one_that_only_decoding_shows_is_found_in_a_set_that_fits_into_memory(tmp_path):
  path = folder(tmp_path)
  place = path / "train/class0/005.png"
  data = bytearray(place.read_bytes())
  data[len(data) // 2] ^= 255  # header and end are whole
  place.write_bytes(data)
  with pytest.raises(ConfigError, match="005.png is no image that Pillow can read"):
    opened(path, 2**30)


def config(path, **changes):
  return api.get_config(
    dict(
      clients=((2, "mlp", dict(hidden=(4,), activation="tanh")),),
      source=f"folder:{path}",
      source_resident_bytes=0,
      partition="equal",
      public_share=0.0,
      public_batch=0,
      batch=2,
      steps=STEPS,
      save_every=2,
      log_every=1,
      evals=dict(accuracy=dict(every=4, batch=2)),
    )
    | changes
  )


def train(c, workdir, damage=lambda: None, stop_at=None, begun=False):
  """Builds, damages, runs; the final weights where the run comes to its end."""
  asked = []
  stop = lambda: asked.append(1) or len(asked) == stop_at
  found = api.experiments(c, devices=jax.devices()[:1], begun=begun)
  damage()
  code = api.run(found, workdir, command="", stop=stop)
  return code


def weights(workdir):
  return jax.tree.leaves(api.Run(workdir).client(1).params)


def breaker(path):
  def damage():
    (path / "train/class0/004.png").write_bytes(b"")
    (path / "train/class1/007.png").write_bytes(PNG[:50])
    (path / "train/class1/002.png").write_bytes(bytes_of(SMALL, "PNG"))
    (path / "test/class1/001.png").unlink()

  return damage


def blacken(path):
  for name in ("train/class0/004", "train/class1/007", "train/class1/002", "test/class1/001"):
    (path / f"{name}.png").write_bytes(bytes_of(np.zeros(SHAPE, np.uint8), "PNG"))


def test_damage_in_the_middle_is_replaced_counted_and_the_same_after_a_resume(tmp_path, capfd):
  """Read by threads, and after the resume by processes."""
  faults = dict(client="reset", saves=5, images=0.5)
  c = {}
  for name in ("black", "straight", "resumed"):
    folder(tmp_path / name / "set")
    c[name] = config(tmp_path / name / "set", faults=faults)
  run = lambda name: tmp_path / name / "run"
  blacken(tmp_path / "black/set")
  assert train(c["black"], run("black")) == 0
  assert train(c["straight"], run("straight"), breaker(tmp_path / "straight/set")) == 0
  said = capfd.readouterr().err
  assert said.count("a black image takes the place of one") >= 3 and "004.png" in said
  (tmp_path / "resumed/set/test/class1").mkdir(exist_ok=True)
  assert train(c["resumed"], run("resumed"), breaker(tmp_path / "resumed/set"), stop_at=3) == 42
  unlinked = tmp_path / "resumed/set/test/class1/001.png"
  unlinked.write_bytes(b"")  # a file that is gone would be another set
  again = api.get_config(c["resumed"], **{"input.workers": 2})
  assert train(again, run("resumed"), stop_at=4, begun=True) == 42  # when all have been met
  assert train(again, run("resumed"), begun=True) == 0
  for other in ("straight", "resumed"):
    for a, b in zip(weights(run("black")), weights(run(other)), strict=True):
      np.testing.assert_array_equal(a, b)
  counts = [json.loads((run(n) / "summary.json").read_text())["unreadable_images"] for n in c]
  assert counts == [0, 4, 4]
  for name in ("straight", "resumed"):
    lines = [json.loads(x) for x in (run(name) / "metrics.jsonl").read_text().splitlines()]
    logged = [x["unreadable"] for x in lines if x["phase"] == "images"]
    assert logged == sorted(set(logged)) and logged[-1] == 4  # each count once


def test_a_share_that_is_too_large_ends_the_run_by_name_and_keeps_its_checkpoint(tmp_path):
  path = folder(tmp_path / "set")
  c = config(path, faults=dict(client="reset", saves=5, images=0.05))  # one of 24
  assert train(c, tmp_path / "run", stop_at=2) == 42
  before = weights(tmp_path / "run")
  for i in range(12):
    (path / f"train/class0/{i:03}.png").write_bytes(b"")
  match = r"2 of 24 private images cannot be read, more than faults.images = 0.05 .*class0/\d+.png"
  with pytest.raises(TrainingError, match=match):
    train(c, tmp_path / "run", begun=True)
  for a, b in zip(before, weights(tmp_path / "run"), strict=True):
    np.testing.assert_array_equal(a, b)


def test_what_other_processes_found_counts_everywhere(monkeypatch):
  """Two processes, of which the other has met images 3 and 7 of ten."""
  sets = {
    "private": example_set.ExampleSet(np.zeros(10, int), np.zeros(10, int), (8, 8, 1), None, None)
  }
  theirs = np.isin(np.arange(10), (3, 7)).astype(np.uint64)
  monkeypatch.setattr(unreadable.hosts, "alone", lambda: False)
  monkeypatch.setattr(unreadable.agreement, "anywhere", lambda flag: True)
  monkeypatch.setattr(unreadable.agreement, "added", lambda own: own + theirs)
  monkeypatch.setattr(unreadable, "_why", lambda examples, place: f"image {place}")
  found = unreadable.Unreadable(sets, share=0.3)
  found.places["private"] = {1, 3}
  found.unite()
  assert found.record() == {"private": [1, 3, 7]}
  few = unreadable.Unreadable(sets, share=0.1)
  with pytest.raises(TrainingError, match="2 of 10 private images .* image 7"):
    few.unite()
