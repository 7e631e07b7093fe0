"""Asynchronous edge learning on Fashion-MNIST: a core and nine edges with 300 images each.

Follows Lee, Yoo and Kwak, 2020, Fig. 5, on small images; three seeds, half a minute: 80.0 % (CEM),
78.5 % (CPP), 76.8 % (IPP) test accuracy of the core after the ninth round. Needs the data:

  tfds build fashion_mnist --file_format=array_record      (pip install ".[prepare]", once)
  python -m kdjax.main --config=configs/async_edge_fashion_mnist.py \\
      --workdir=runs/async_edge_fashion_mnist

or the four official files with --config.source=idx:DIR, or --config.source=npz:FILE. Variants and
other settings: async_edge_digits.py.

A core with 300 images already knows most of what its edges know, and the gain of a core with fewer
images is not significant: with 50 and with 100 images each, on 2,000 held-out training images,
seeds 100 to 104, the core gains 1.7 and 1.9 points from the third round to the ninth, 95 %
intervals -0.7 to 4.2 and -0.0 to 3.7 (commit 20a1760). Letters leave more to learn:
async_edge_letter.py.
"""

from kdjax.configs import async_edge_digits, common, data


def get_config(words=""):
  """The digits' core and edges on larger images."""
  c = async_edge_digits.get_config()
  c.clients = ((10, "mlp", dict(hidden=(128, 64), activation="relu")),)
  c.batch = 30
  data.fashion_mnist(c)
  c.limit = 3_000
  c.evals.accuracy = dict(every=0, batch=2_000)
  c.evals.overlap = dict(every=0, batch=2_000)
  return common.crossed(c, words)
