"""FedGKT as published: 16 ResNet-8 edges and a ResNet-55 server, non-IID CINIC-10.

He, Annavaram and Avestimehr, NeurIPS 2020, Table 1: 77.80 %, against 77.85 % for FedAvg (:fedavg).
The paper's split is drawn from Dir(0.5) and not printed, so the split here is another draw.

  python -m kdjax.main --config=configs/fedgkt_cinic10_skewed.py --workdir=runs/fedgkt_cinic10

Needs the data, as fedgkt_cinic10.py says, and an accelerator: not run by us.
"""

from kdjax.configs import common, fedgkt_cifar10, fedgkt_cinic10


def get_config(words=""):
  """The networks and the non-IID settings of fedgkt_cifar10.py on CINIC-10."""
  c = fedgkt_cinic10.on(fedgkt_cifar10.get_config())
  c.partition, c.counts, c.alpha = "dirichlet", (), 0.5
  return common.crossed(c, words, fedgkt_cifar10.NETWORKS)
