"""MHD on Fashion-MNIST, 10,000 training images: five clients, two primary labels each, s = 100.

Follows Zhmoginov et al., CVPR 2023, Table 1 and Fig. 4, on small images. Needs the data:

  tfds build fashion_mnist --file_format=array_record      (pip install ".[prepare]", once)
  python -m kdjax.main --config=configs/mhd_fashion_mnist.py --workdir=runs/fashion

or the four official files with --config.source=idx:DIR, or --config.source=npz:FILE. Numbers that
it reached, with seeds and time: docs/results.md.
"""

from kdjax.configs import common, data, mhd_digits


def get_config(words=""):
  """The quickstart's clients on larger images."""
  c = mhd_digits.get_config()
  c.clients = ((5, "mlp", dict(hidden=(128, 128, 64), activation="tanh")),)
  c.steps = 6_000
  data.fashion_mnist(c)
  c.limit = 10_000
  c.evals.accuracy = dict(every=500, batch=2_000)
  return common.crossed(c, words)
