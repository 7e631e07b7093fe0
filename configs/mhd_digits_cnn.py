"""MHD on scikit-learn's handwritten digits with a small convolutional network.

The quickstart's recipe (mhd_digits.py) at three quarters of its rate, for 4,000 steps: at three
times the quickstart's own rate heads of this network collapsed, and after fewer steps at a third of
this one the last head is behind the one before it (docs/methods/mhd.md). Last head 79.3 % shared,
separate 29.6 (twenty seeds); two minutes a seed.

  python -m kdjax.main --config=configs/mhd_digits_cnn.py --workdir=runs/digits_cnn
"""

from kdjax.configs import common, mhd_digits


def get_config(words=""):
  """The quickstart's clients, each a convolutional network."""
  c = mhd_digits.get_config()
  c.clients = ((5, "cnn", dict(widths=(16, 32))),)
  c.optim.lr = 0.015
  c.steps = 4_000
  return common.crossed(c, words)
