"""Supervised training on CIFAR-10: one client holds all private data.

The experiment of mhd_cifar10.py, pooled.

  python -m kdjax.main --config=configs/supervised_cifar10.py \\
      --workdir=runs/supervised_cifar10
"""

from configs import common, mhd_cifar10


def get_config():
  """The experiment of mhd_cifar10.py, pooled."""
  return common.pooled(mhd_cifar10.get_config())
