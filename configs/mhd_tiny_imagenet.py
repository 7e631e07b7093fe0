"""MHD on Tiny ImageNet: three ResNet-18 clients and one ResNet-34, 100 random labels each, s = 100.

Zhmoginov et al., CVPR 2023, Section 4.5 (mixed architectures) on 64 x 64 images; the paper's
numbers are for ImageNet. It is the recipe of mhd_digits.py with four times its batch and rate. Not
run by us. Needs the data as --config.source=npz:FILE or folder:DIR.

  python -m kdjax.main --config=configs/mhd_tiny_imagenet.py --workdir=runs/tiny \\
      --config.source=npz:tiny_imagenet.npz

Meant for an accelerator. Four ResNet-18: mhd_tiny_imagenet.py:network=resnet18, averaged: :fedavg.
"""

from kdjax.algorithms import mhd
from kdjax.configs import common, data


def get_config(words=""):
  """The experiment."""
  c = common.base()
  networks = {f"resnet{d}": ("resnet", dict(depth=d, stem="small")) for d in (18, 34)}
  c.clients = ((3, *networks["resnet18"]), (1, *networks["resnet34"]))
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
    nu_aux=1.0,
    pool_size=4,
    refresh_every=200,
    pool_start="empty",
    speak_in="evaluation",
    public_statistics=True,
  )
  c.algo = common.algo(hyper)
  c.baselines.fedavg.clients = common.network(c, networks["resnet18"])
  c.baselines.fedavg.algo.local_steps = 200
  c.optim = common.sgd(lr=0.08, clip=0.0)

  c.save_every = 2_000
  c.evals.accuracy = dict(every=2_000, batch=500)
  return common.crossed(c, words, networks)
