"""Pairwise transfer on Fashion-MNIST: classes 0-2, 3-5, and 6-9 with 5 % of everything.

Goldstein et al., 2020, Table 1 (after 25 epochs: local 93 %, remote 67 %), with a small perceptron
and 10,000 training images, where the paper has a ResNet-50 and all images. Needs the data, as
mhd_fashion_mnist.py says.

  python -m kdjax.main --config=configs/pairwise_fashion_mnist.py --workdir=runs/pairwise_fashion

25 rounds of an epoch and an epoch of transfer, each of about 121 batches. Evaluations come after
every round, right after the transfer. About a minute on two cores, and as long for each baseline.
Controls as in pairwise_digits.py. Numbers: docs/results.md.
"""

from kdjax.configs import common, data, pairwise_digits


def get_config(words=""):
  """The clients and the mesh of pairwise_digits.py on larger images."""
  c = pairwise_digits.get_config()
  c.clients = ((3, "mlp", dict(hidden=(128, 64, 64), activation="relu")),)
  c.rounds = 25
  pairwise_digits.as_long(c, epoch=121)
  data.fashion_mnist(c)
  c.limit = 10_000
  c.algo.transfer_optim.lr = 1e-5  # an epoch has seven times as many batches as in pairwise_digits
  for name in ("accuracy", "confusion", "prior_offset"):
    c.evals[name] = dict(every=0, batch=2_000)
  return common.crossed(c, words)
