"""The experiments that kdjax's contestants run: configs and synthetic data."""

import numpy as np

from kdjax.algorithms import mhd
from kdjax.config import plain
from kdjax.configs import common
from kdjax.data import dataset
from kdjax.data.sources import ExampleSet, Source
from kdjax.types import Shards

MODELS = {  # name: (model, its arguments, norm, image, classes)
  "mlp": ("mlp", dict(hidden=(128,), activation="relu"), "none", (28, 28, 1), 10),
  "cnn": ("cnn", dict(widths=(16, 32)), "batch", (8, 8, 1), 10),
  "resnet20": ("cifar_resnet", dict(depth=20), "batch", (32, 32, 3), 10),
  "resnet18": (
    "resnet",
    dict(depth=18, stem="small"),
    "batch",
    (32, 32, 3),
    10,
  ),
  "resnet34": (
    "resnet",
    dict(depth=34, stem="imagenet"),
    "batch",
    (224, 224, 3),
    1000,
  ),
  "emnist": ("benchmarks.contestants.models:ConvNet", {}, "none", (28, 28, 1), 62),
  "cifar": ("benchmarks.contestants.models:ConvNet", {}, "none", (32, 32, 3), 10),
}
MACS = {  # multiply-adds of a forward pass on one image
  "mlp": 101_632,
  "cnn": 83_264,
  "resnet20": 40_551_040,
  "resnet18": 555_422_720,
  "resnet34": 3_663_761_408,
  "emnist": 11_999_104,
  "cifar": 16_835_200,
}
AUX_HEADS, TEACHERS = 3, 1  # of MHD: four heads, D = 1
ENDLESS = 10**6  # batches, more than any contest takes


def config(spec):
  """A whole config in the form of `configs/common.py`, as a nested dict.

  Args:
    spec: {'model': a key of MODELS, 'clients': K, 'batch': B, 'algorithm': 'separate', 'mhd' or
      'fedavg'} and optionally 'dtype' ('float32'), 'map', 'conv' ('auto') and 'steps_per_dispatch'
      (0).
  """
  name, arguments, norm, image, classes = MODELS[spec["model"]]
  n = spec["clients"] * spec.get("examples", 4 * spec["batch"])
  info = dict(train=n + spec["batch"], test=1, image=image, classes=classes, resize=False)
  rounds = spec["algorithm"] == "fedavg"
  c = common.base()
  c.clients = ((spec["clients"], name, arguments),)
  c.model = dict(norm=norm, dtype=spec.get("dtype", "float32"), project=0)
  c.steps, c.rounds = (0, ENDLESS // 100) if rounds else (ENDLESS, 0)
  c.batch = c.public_batch = spec["batch"]
  c.source, c.source_resident_bytes = "synthetic", 2**40
  c.source_info.update(info)
  c.public_share = spec["batch"] / info["train"]
  c.partition = "equal"
  c.normalise = dict(mean=(0.5,), std=(0.25,))
  c.algorithm, c.algo = spec["algorithm"], ALGORITHMS[spec["algorithm"]]
  c.optim = FEDERATED if rounds else MOMENTUM
  c.log_every = c.save_every = 0
  c.evals = dict()
  c.mesh.update({k: spec[k] for k in ("map", "conv", "steps_per_dispatch") if k in spec})
  return plain(c)


MHD = mhd.Hyper(
  aux_heads=AUX_HEADS,
  nu_emb=1.0,
  teachers=TEACHERS,
  pool_size=2,
  refresh_every=ENDLESS,  # a refresh is a phase of its own; the step is what is timed
  pool_start="first",
  speak_in="mixed",
)
ALGORITHMS = {
  "separate": {},
  "mhd": common.algo(MHD),
  "fedavg": dict(local_steps=5, momentum="reset"),
}
MOMENTUM = common.sgd(lr=0.01, clip=0.0, schedule="constant")
FEDERATED = MOMENTUM | dict(lr=0.1, momentum=0.0, weight_decay=0.0)


def data(spec):
  """Noise of a config's shape: `examples` per client (default: four batches), one public batch."""
  *_, image, classes = MODELS[spec["model"]]
  K, each = spec["clients"], spec.get("examples", 4 * spec["batch"])
  n = K * each + spec["batch"]
  rng = np.random.default_rng(0)
  labels = rng.integers(classes, size=n)
  pixels = rng.integers(256, size=(n, *image), dtype=np.uint8)
  train = ExampleSet(labels, labels, image, pixels, None)
  *private, public = np.split(np.arange(n), each * np.arange(1, K + 1))
  counts = np.stack([np.bincount(labels[x], minlength=classes) for x in private])
  shards = Shards(tuple(private), (public,), ((),) * K, counts)
  return dataset.Data(Source("synthetic", train, train, classes), train, shards)
