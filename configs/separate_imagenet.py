"""Separate training on ImageNet: the lower baseline.

The experiment and the split of mhd_imagenet.py with another method.

Zhmoginov et al., CVPR 2023, Table 1: 25.1 % (s = 100), 46.3 % (s = 0). Not run by us.

  python -m kdjax.main --config=configs/separate_imagenet.py \\
      --workdir=runs/separate_imagenet
"""

from configs import common, mhd_imagenet


def get_config():
  """The experiment of mhd_imagenet.py with another method."""
  return common.with_method(mhd_imagenet.get_config(), "separate")
