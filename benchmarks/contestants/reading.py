"""Contestants of suite `input`: reading encoded images, and the host's part of a resident step.

spec: {'what': 'source', 'ahead', 'pillow', 'opencv' or 'resident', 'steps': of a block}. All but
the last read batches of 32 on one core and take {'source': 'folder:DIR' or 'records:DIR',
'decoder', 'folder': DIR, 'images': N, 'size'}: 'source' by kdjax's reader, 'ahead' as a run does,
by Grain's threads, into one client's batches; the others by that library in a plain loop.
'resident' takes `settings.config`'s keys, makes a step's inputs and puts them on the device.
"""

import contextlib
import itertools
import os
from importlib import metadata
from pathlib import Path

import numpy as np

from benchmarks.contestants import protocol

BATCH = 32


def prepare(spec):
  """See `protocol.serve`."""
  if spec["what"] == "resident":
    return resident(spec)
  os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
  if spec["what"] == "ahead":
    return ahead(spec)
  read = {"source": source, "pillow": pillow, "opencv": opencv}[spec["what"]](spec)
  rng = np.random.default_rng(0)

  def block():
    for _ in range(spec["steps"]):
      read(rng.integers(spec["images"], size=BATCH))

  libraries = {"source": ("pillow", "opencv"), "pillow": ("pillow",), "opencv": ("opencv",)}
  return block, {"versions": versions(libraries[spec["what"]])}


def versions(libraries):
  """Versions of the libraries that decode, of those that are installed."""
  names = {"pillow": "pillow", "opencv": "opencv-python-headless"}
  found = {}
  for library in libraries:
    with contextlib.suppress(metadata.PackageNotFoundError):
      found[names[library]] = metadata.version(names[library])
  return found


def source(spec):
  """kdjax's reading of a source that is not resident: indices -> u8[n, size, size, 3]."""
  from kdjax.data import sources

  info = dict(image=(spec["size"], spec["size"], 3), resize=spec["source"].startswith("folder:"))
  opened = sources.opened(spec["source"], info=info | {"decoder": spec["decoder"]}, test=False)
  return opened.train.fetch


def ahead(spec):
  """The inputs of a run of one client, made as the training loop makes them."""
  from benchmarks import settings
  from kdjax import experiment
  from kdjax.training.stepper import Stepper

  image, n = (spec["size"], spec["size"], 3), spec["images"]
  config = settings.config(dict(model="mlp", clients=1, batch=BATCH, algorithm="separate"))
  config |= dict(source=spec["source"], source_resident_bytes=0, holdout=1, steps=spec["steps"])
  config["source_info"] |= dict(image=image, classes=2, resize=True, decoder=spec["decoder"])
  config["source_info"] |= dict(train=n, test=0)
  config |= dict(public_batch=1, public_share=1 / n)
  stepper = Stepper(experiment.build(config))

  def block():  # a run from its first batch to its last: nothing is read before or left to read
    for _ in stepper.feeds(stepper.dispatches(0)):
      pass

  return block, {"versions": versions(("pillow", "opencv"))}


def loop(spec, one):
  """`one(path)`, an image, for every index in turn."""
  paths = sorted(Path(spec["folder"]).rglob("*.jpg"))

  def read(index):
    out = np.empty((len(index), spec["size"], spec["size"], 3), np.uint8)
    for i, n in enumerate(index):
      out[i] = one(paths[n])
    return out

  return read


def pillow(spec):
  """Pillow: decode no larger than needed, resize to cover, crop."""
  from PIL import Image, ImageOps

  size = (spec["size"],) * 2

  def one(path):
    with Image.open(path) as image:
      image.draft(None, size)
      return np.asarray(ImageOps.fit(image.convert("RGB"), size, Image.Resampling.BILINEAR))

  return loop(spec, one)


def opencv(spec):
  """OpenCV: decode, crop to a square, resize; for images less than twice as large."""
  import cv2

  cv2.setNumThreads(1)

  def one(path):
    image = cv2.imread(str(path), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    h, w = image.shape[:2]
    side = min(h, w)
    top, left = (h - side) // 2, (w - side) // 2
    square = image[top : top + side, left : left + side]
    return cv2.cvtColor(cv2.resize(square, (spec["size"],) * 2), cv2.COLOR_BGR2RGB)

  return loop(spec, one)


def resident(spec):
  """The indices of a step, made on the host and put on the device."""
  import jax

  from benchmarks.contestants.trainer import Trainer, configure, facts
  from kdjax.training.stepper import Dispatch

  configure(spec)
  trainer, at = Trainer(spec), itertools.count()

  def block():
    for _ in range(spec["steps"]):
      inputs = trainer.stepper.inputs(Dispatch(trainer.visits[0], next(at), 1))
      jax.block_until_ready(jax.device_put(inputs))

  return block, facts()


if __name__ == "__main__":
  protocol.serve(prepare)
