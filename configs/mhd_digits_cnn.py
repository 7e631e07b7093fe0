"""MHD on scikit-learn's handwritten digits with a small convolutional network.

The quickstart's recipe (mhd_digits.py) at three quarters of its rate, for 4,000 steps. At three
times the quickstart's own rate, heads of this network collapsed. At a third of this file's rate and
with fewer steps, the last head stays behind the one before it (docs/methods/mhd.md). The last head
reaches 79.3 % shared accuracy, separate training 29.6 % (twenty seeds). Two minutes per seed.

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
