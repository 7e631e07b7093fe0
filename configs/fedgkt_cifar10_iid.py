"""FedGKT as published: 16 ResNet-8 edges and a ResNet-55 server, IID CIFAR-10.

He, Annavaram and Avestimehr, NeurIPS 2020, Table 1: 92.97 %, against 92.88 % for FedAvg (:fedavg)
and 93.05 % for ResNet-56 (:supervised). Tables 2 (--config.algo.server_distils=True, both teach:
90.53 %), 3 (--config.algo.arrivals=1, asynchronous: 92.92 %) and 5 are this experiment too.

  python -m kdjax.main --config=configs/fedgkt_cifar10_iid.py --workdir=runs/fedgkt_cifar10_iid

Needs the data, as fedgkt_cifar10.py says, and an accelerator: not run by us, some days on one GPU.
"""

from kdjax.configs import common, fedgkt_cifar10


def get_config(words=""):
  """The networks of fedgkt_cifar10.py with the IID settings of Table 10: Adam, 20 server epochs."""
  c = fedgkt_cifar10.get_config()
  c.partition, c.counts = "equal", ()
  c.algo.server_epochs = 20
  c.optim = common.adam(lr=1e-3, eps=1e-8, weight_decay=1e-4, amsgrad=True)
  c.algo.server_optim = c.optim.to_dict()
  return common.crossed(c, words, fedgkt_cifar10.NETWORKS)
