"""Supervised training on ImageNet: one client holds all private data.

The experiment of mhd_imagenet.py, pooled.

Zhmoginov et al., CVPR 2023, Table 1: 68.9 %. Not run by us.

  python -m kdjax.main --config=configs/supervised_imagenet.py \\
      --workdir=runs/supervised_imagenet
"""

from configs import common, mhd_imagenet


def get_config():
  """The experiment of mhd_imagenet.py, pooled."""
  return common.pooled(mhd_imagenet.get_config())
