"""MHD on Tiny ImageNet: three ResNet-18 clients and one ResNet-34, 100 random labels each, s = 100.

Zhmoginov et al., CVPR 2023, Section 4.5 (mixed architectures) on 64 x 64 images; the paper's
numbers are for ImageNet. Needs the data as --config.source=npz:FILE or folder:DIR.

  python -m kdjax.main --config=configs/mhd_tiny_imagenet.py --workdir=runs/tiny \\
      --config.source=npz:tiny_imagenet.npz

Meant for an accelerator.
"""

from kdjax.algorithms import mhd
from kdjax.configs import common, data


def get_config(words=""):
  """The experiment."""
  c = common.base()
  small = dict(stem="small")
  c.clients = ((3, "resnet", dict(depth=18, **small)), (1, "resnet", dict(depth=34, **small)))
  c.model = dict(norm="batch", dtype="bfloat16", project=0)
  c.steps = 30_000
  c.batch = 128
  c.public_batch = 128

  data.tiny_imagenet(c)
  c.public_share = 0.1
  c.skew = 100.0
  c.primary = "random"
  c.labels = 100
  c.augment = dict(kind="crop_flip", padding=8, flip=True)

  c.algorithm = "mhd"
  hyper = mhd.Hyper(
    aux_heads=3,
    nu_emb=1.0,
    pool_size=4,
    refresh_every=200,
    pool_start="empty",
    speak_in="evaluation",
  )
  c.algo = common.algo(hyper)
  c.optim = common.sgd(lr=0.1, clip=1.0)

  c.save_every = 2_000
  c.evals.accuracy = dict(every=2_000, batch=500)
  return common.crossed(c, words)
