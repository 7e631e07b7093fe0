"""Separate training on CIFAR-10: the lower baseline.

The experiment and the split of mhd_cifar10.py with another method.

  python -m kdjax.main --config=configs/separate_cifar10.py \\
      --workdir=runs/separate_cifar10
"""

from configs import common, mhd_cifar10


def get_config():
  """The experiment of mhd_cifar10.py with another method."""
  return common.with_method(mhd_cifar10.get_config(), "separate")
