"""FedMD on Fashion-MNIST, 10,000 training images; see fedmd_digits.py and mhd_fashion_mnist.py.

python -m kdjax.main --config=configs/fedmd_fashion_mnist.py --workdir=runs/fedmd_fashion
"""

from kdjax.configs import common, fedmd_digits, mhd_fashion_mnist


def get_config(words=""):
  """The experiment of mhd_fashion_mnist.py with FedMD in its place."""
  return common.crossed(fedmd_digits.agreed(mhd_fashion_mnist.get_config(), rounds=32), words)
