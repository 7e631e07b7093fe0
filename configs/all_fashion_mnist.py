"""Every method on one split of Fashion-MNIST, with equally many private examples per client.

As all_digits.py, with the clients of mhd_fashion_mnist.py and 137 passes. Needs the data, as
mhd_fashion_mnist.py says.

  python -m kdjax.main --config=configs/all_fashion_mnist.py --workdir=runs/all_fashion
"""

from kdjax.configs import all_digits, common, mhd_fashion_mnist


def get_config(words=""):
  """The experiment of mhd_fashion_mnist.py, with all other methods to compare."""
  return common.crossed(all_digits.beside(mhd_fashion_mnist.get_config(), passes=137), words)
