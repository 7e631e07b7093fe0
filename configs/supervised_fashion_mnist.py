"""Supervised training on Fashion-MNIST: one client holds all private data.

The experiment of mhd_fashion_mnist.py, pooled.

  python -m kdjax.main --config=configs/supervised_fashion_mnist.py \\
      --workdir=runs/supervised_fashion_mnist
"""

from configs import common, mhd_fashion_mnist


def get_config():
  """The experiment of mhd_fashion_mnist.py, pooled."""
  return common.pooled(mhd_fashion_mnist.get_config())
