"""Separate training on Tiny ImageNet: the lower baseline.

The experiment and the split of mhd_tiny_imagenet.py with another method.

  python -m kdjax.main --config=configs/separate_tiny_imagenet.py \\
      --workdir=runs/separate_tiny_imagenet
"""

from configs import common, mhd_tiny_imagenet


def get_config():
  """The experiment of mhd_tiny_imagenet.py with another method."""
  return common.with_method(mhd_tiny_imagenet.get_config(), "separate")
