"""FedGKT on 10,000 images of CIFAR-10: eight small edges and a larger server, Dir(0.5).

Follows He, Annavaram and Avestimehr, NeurIPS 2020, Table 1, at small scale; about four minutes a
seed on one core. Needs the data, as fedgkt_cifar10.py says:

  python -m kdjax.main --config=configs/fedgkt_cifar10_small.py --workdir=runs/fedgkt_cifar10_small

IID: --config.partition=equal --config.optim.lr=0.01. The control, edges that keep their first
weights: --config.optim.lr=0. An extractor turns 3,072 numbers into 32, for the reason in
fedgkt_digits.py: the server's shared accuracy on 2,000 held-out training images, seed 100, IID, is
22.5 % with frozen edges and 30.4 % with trained ones. The rate for Dir(0.5) is that of
Fashion-MNIST, untried on this set.
"""

from kdjax.configs import common, data, fedgkt_fashion_mnist

FRONT = ((8, 2), (16, 2), (16, 2), (8, 2))  # (channels, stride) of the extractor's layers


def get_config(words=""):
  """The experiment of fedgkt_fashion_mnist.py on photographs, with a wider extractor."""
  chosen = fedgkt_fashion_mnist.networks(FRONT)
  c = fedgkt_fashion_mnist.small(chosen)
  data.cifar10(c)
  c.limit = 10_000
  return common.crossed(c, words, chosen)
