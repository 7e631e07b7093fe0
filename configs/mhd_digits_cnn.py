"""MHD on scikit-learn's handwritten digits with a small convolutional network.

The quickstart's recipe (mhd_digits.py) at three quarters of its rate: at three times the
quickstart's own rate heads of this network collapsed, at three times this one none did
(docs/methods/mhd.md). Last head 70.7 % shared, separate 26.4 (ten seeds); a minute a seed.

  python -m kdjax.main --config=configs/mhd_digits_cnn.py --workdir=runs/digits_cnn
"""

from kdjax.configs import common, mhd_digits


def get_config(words=""):
  """The quickstart's clients, each a convolutional network."""
  c = mhd_digits.get_config()
  c.clients = ((5, "cnn", dict(widths=(16, 32))),)
  c.optim.lr = 0.015
  return common.crossed(c, words)
