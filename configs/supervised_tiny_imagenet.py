"""Supervised training on Tiny ImageNet: one client holds all private data.

The experiment of mhd_tiny_imagenet.py, pooled.

  python -m kdjax.main --config=configs/supervised_tiny_imagenet.py \\
      --workdir=runs/supervised_tiny_imagenet
"""

from configs import common, mhd_tiny_imagenet


def get_config():
  """The experiment of mhd_tiny_imagenet.py, pooled."""
  return common.pooled(mhd_tiny_imagenet.get_config())
