"""FedAvg on Fashion-MNIST: the upper baseline of mhd_fashion_mnist.py, on the same split.

  python -m kdjax.main --config=configs/fedavg_fashion_mnist.py --workdir=runs/fedavg_fashion_mnist
"""

from configs import common, mhd_fashion_mnist


def get_config():
  """The experiment of mhd_fashion_mnist.py with another method."""
  return common.with_method(mhd_fashion_mnist.get_config(), "fedavg")
