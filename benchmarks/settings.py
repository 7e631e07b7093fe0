"""The experiments that kdjax's contestants run: configs and synthetic data."""

import numpy as np

from kdjax.data import dataset
from kdjax.data.sources import ExampleSet, Source
from kdjax.types import Shards

MODELS = {  # name: (model, its arguments, norm, image, classes)
  "mlp": ("mlp", dict(hidden=(128,), activation="relu"), "none", (28, 28, 1), 10),
  "cnn": ("cnn", dict(widths=(16, 32)), "batch", (8, 8, 1), 10),
  "resnet20": ("cifar_resnet", dict(depth=20), "batch", (32, 32, 3), 10),
  "resnet18": (
    "resnet",
    dict(depth=18, stem="small", remat=False),
    "batch",
    (32, 32, 3),
    10,
  ),
  "resnet34": (
    "resnet",
    dict(depth=34, stem="imagenet", remat=False),
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
ENDLESS = 10**6  # batches: more than any contest takes


def config(spec):
  """A whole config, as `configs/common.py` has them, as a nested dict.

  Args:
    spec: {'model': a key of MODELS, 'clients': K, 'batch': B, 'algorithm': 'separate', 'mhd' or
      'fedavg'} and, where they are not 'float32', 'auto' and 0, 'dtype', 'map', 'conv' and
      'steps_per_dispatch'.
  """
  name, arguments, norm, image, classes = MODELS[spec["model"]]
  n = spec["clients"] * spec.get("examples", 4 * spec["batch"])
  info = dict(train=n + spec["batch"], test=1, image=image, classes=classes, resize=False)
  info |= dict(decoder="pillow")
  rounds = spec["algorithm"] == "fedavg"
  return dict(
    seed=0,
    replicas=1,
    clients=((spec["clients"], name, arguments),),
    model=dict(norm=norm, dtype=spec.get("dtype", "float32"), project=0),
    steps=0 if rounds else ENDLESS,
    rounds=ENDLESS // 100 if rounds else 0,
    batch=spec["batch"],
    public_batch=spec["batch"],
    source="synthetic",
    source_info=info,
    source_resident_bytes=2**40,
    limit=0,
    holdout=0,
    public_source="",
    public_source_info=dict(info, train=0, test=0),
    public_share=spec["batch"] / info["train"],
    public_reuse=False,
    public_labels=False,
    partition="equal",
    skew=0.0,
    primary="random",
    primary_labels=(),
    labels=0,
    alpha=0.0,
    counts=(),
    overlay=dict(share=0.0, clients=()),
    augment=dict(kind="none"),
    normalise=dict(mean=(0.5,), std=(0.25,)),
    start=dict(common=False, workdir="", client=0, part=""),
    graph=dict(kind="complete", every=0, island=2, degree=2, edges=(), seed=0),
    algorithm=spec["algorithm"],
    algo=ALGORITHMS[spec["algorithm"]],
    compare=(),
    compare_rounds={},
    compare_algo={},
    optim=FEDERATED if rounds else MOMENTUM,
    log_every=0,
    save_every=0,
    evals={},
    input=dict(workers=0, ahead=2),
    mesh=dict(
      map=spec.get("map", "auto"),
      conv=spec.get("conv", "auto"),
      steps_per_dispatch=spec.get("steps_per_dispatch", 0),
      device_tflops=100.0,
    ),
  )


MHD = dict(
  aux_heads=AUX_HEADS,
  nu_emb=1.0,
  nu_aux=3.0,
  exchange="pool",
  teachers=TEACHERS,
  pool_size=2,
  refresh_every=ENDLESS,  # a refresh is a phase of its own; the step is what is timed
  publish=0,
  top_k=0,
  one_pass="auto",
  target="confident",
  include_self=True,
  confidence="max",
  skip_confident=False,
  rho="square",
  public_statistics=False,
)
ALGORITHMS = {"separate": {}, "mhd": MHD, "fedavg": dict(local_steps=5, momentum="reset")}
MOMENTUM = dict(
  name="sgd",
  lr=0.01,
  schedule="constant",
  warmup=0,
  momentum=0.9,
  nesterov=False,
  weight_decay=1e-4,
  clip=0.0,
)
FEDERATED = dict(MOMENTUM, lr=0.1, momentum=0.0, weight_decay=0.0)


def data(spec):
  """Noise of a config's shape: `examples` a client (four batches), one public batch."""
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
