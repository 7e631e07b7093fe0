"""Every method on one split of Fashion-MNIST, with as many private examples a client.

As all_digits.py, with the clients of mhd_fashion_mnist.py; 137 passes. Needs the data, see there.

  python -m kdjax.main --config=configs/all_fashion_mnist.py --workdir=runs/all_fashion
"""

from kdjax.configs import all_digits, common, mhd_fashion_mnist


def get_config(words=""):
  """The experiment of mhd_fashion_mnist.py beside all other methods."""
  return common.crossed(all_digits.beside(mhd_fashion_mnist.get_config(), passes=137), words)
