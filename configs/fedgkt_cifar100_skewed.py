"""FedGKT as published: 16 ResNet-8 edges and a ResNet-55 server, non-IID CIFAR-100.

He, Annavaram and Avestimehr, NeurIPS 2020, Table 1: 63.76 %, against 63.78 % for FedAvg (:fedavg).
The paper's split is drawn from Dir(0.5) and not printed, so the split here is another draw.

  python -m kdjax.main --config=configs/fedgkt_cifar100_skewed.py --workdir=runs/fedgkt_cifar100

Needs the data, as fedgkt_cifar100.py says, and an accelerator: not run by us.
"""

from kdjax.configs import common, data, fedgkt_cifar10


def get_config(words=""):
  """The networks and the non-IID settings of fedgkt_cifar10.py with 100 classes."""
  c = fedgkt_cifar10.get_config()
  data.cifar100(c)
  c.partition, c.counts, c.alpha = "dirichlet", (), 0.5
  c.augment.fill = data.CIFAR100_MEAN
  c.algo.server_distils = True  # 'Both' of Table 2, its best on this set
  return common.crossed(c, words, fedgkt_cifar10.NETWORKS)
