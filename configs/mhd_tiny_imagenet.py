"""MHD on Tiny ImageNet: three ResNet-18 clients and one ResNet-34, 100 random labels each, s = 100.

Zhmoginov et al., CVPR 2023, Section 4.5 (mixed architectures) on 64 x 64 images; the paper's
numbers are for ImageNet. Needs the data as --config.source=npz:FILE or folder:DIR.

  python -m kdjax.main --config=configs/mhd_tiny_imagenet.py --workdir=runs/tiny \\
      --config.source=npz:tiny_imagenet.npz

Meant for an accelerator.
"""

from configs import common


def get_config():
  """The experiment."""
  c = common.base()
  small = dict(stem="small", remat=False)
  c.clients = ((3, "resnet", dict(depth=18, **small)), (1, "resnet", dict(depth=34, **small)))
  c.model = dict(norm="batch", dtype="bfloat16", project=0)
  c.steps = 30_000
  c.batch = 128
  c.public_batch = 128

  c.source = "npz:tiny_imagenet.npz"
  c.source_info = dict(train=100_000, test=10_000, image=(64, 64, 3), classes=200, resize=False)
  c.public_share = 0.1
  c.skew = 100.0
  c.primary = "random"
  c.labels = 100
  c.augment = dict(kind="crop_flip", padding=8, flip=True)
  c.normalise = dict(mean=(0.480, 0.448, 0.398), std=(0.277, 0.269, 0.282))

  c.algorithm = "mhd"
  c.algo = common.mhd(aux_heads=3, nu_emb=1.0, pool_size=4, refresh_every=200)
  c.optim = common.sgd(lr=0.1, clip=1.0)

  c.save_every = 2_000
  c.evals.accuracy = dict(every=2_000, batch=500)
  return c
