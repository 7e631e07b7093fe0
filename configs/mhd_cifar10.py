"""MHD on CIFAR-10: five CIFAR ResNet-20 clients, two primary labels each, s = 100.

Zhmoginov et al., CVPR 2023, at a size for one accelerator; the paper has no number for it. Needs
the data: `tfds build cifar10 --file_format=array_record`, or --config.source=cifar:DIR with the
official binary version, or --config.source=npz:FILE.

  python -m kdjax.main --config=configs/mhd_cifar10.py --workdir=runs/cifar10

Meant for an accelerator; on two CPU cores a step takes seconds. mhd_cifar10_small.py trains on
CIFAR-10 with the recipe of mhd_digits.py.
"""

from kdjax.algorithms import mhd
from kdjax.configs import common, data


def get_config(words=""):
  """The experiment."""
  c = common.base()
  c.clients = ((5, "cifar_resnet", dict(depth=20)),)
  c.model = dict(norm="batch", dtype="float32", project=0)
  c.steps = 20_000
  c.batch = 64
  c.public_batch = 64

  data.cifar10(c)
  c.public_share = 0.2
  c.skew = 100.0
  c.primary = "even"
  c.labels = 2
  c.augment = dict(kind="crop_flip", padding=4, flip=True)
  c.normalise = dict(mean=(0.491, 0.482, 0.447), std=(0.247, 0.243, 0.262))

  c.algorithm = "mhd"
  hyper = mhd.Hyper(
    aux_heads=3,
    nu_emb=1.0,
    pool_size=5,
    refresh_every=100,
    pool_start="empty",
    speak_in="evaluation",
  )
  c.algo = common.algo(hyper)
  c.baselines.fedavg.algo.local_steps = 100
  c.optim = common.sgd(lr=0.1, clip=1.0)

  c.save_every = 1_000
  c.evals.accuracy = dict(every=1_000, batch=500)
  return common.crossed(c, words)
