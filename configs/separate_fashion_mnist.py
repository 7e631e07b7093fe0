"""Separate training on Fashion-MNIST: the lower baseline.

The experiment and the split of mhd_fashion_mnist.py with another method.

  python -m kdjax.main --config=configs/separate_fashion_mnist.py \\
      --workdir=runs/separate_fashion_mnist
"""

from configs import common, mhd_fashion_mnist


def get_config():
  """The experiment of mhd_fashion_mnist.py with another method."""
  return common.with_method(mhd_fashion_mnist.get_config(), "separate")
