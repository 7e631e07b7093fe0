"""FedGKT on 10,000 images of CIFAR-10: eight small edges and a larger server."""

from kdjax.configs import common, data, fedgkt_fashion_mnist

FRONT = ((8, 2), (16, 2), (16, 2))  # (channels, stride) of the extractor's layers


def get_config(words=""):
  """The experiment of fedgkt_fashion_mnist.py on photographs, with a wider extractor."""
  chosen = fedgkt_fashion_mnist.networks(FRONT)
  c = fedgkt_fashion_mnist.small(chosen)
  data.cifar10(c)
  c.limit = 10_000
  return common.crossed(c, words, chosen)
