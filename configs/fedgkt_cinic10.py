"""FedGKT as published: 16 ResNet-8 edges and a ResNet-55 server, IID CINIC-10.

He, Annavaram and Avestimehr, NeurIPS 2020, Table 1: 81.51 %, against 81.62 % for FedAvg (:fedavg),
81.66 % and 67.72 % for ResNet-56 and ResNet-8 on all data (:supervised; :supervised,network=edge).

  python -m kdjax.main --config=configs/fedgkt_cinic10.py --workdir=runs/fedgkt_cinic10

Needs the data, unpacked as published: CINIC-10/train/CLASS/*.png, CINIC-10/test/CLASS/*.png
(--config.source=folder:DIR). The validation images are not used, as in the paper. Not run by us: it
is meant for an accelerator. Non-IID: fedgkt_cinic10_skewed.py.
"""

from kdjax.configs import common, data, fedgkt_cifar10, fedgkt_cifar10_iid


def get_config(words=""):
  """The experiment of fedgkt_cifar10_iid.py on other images, nearly twice as many."""
  return common.crossed(on(fedgkt_cifar10_iid.get_config()), words, fedgkt_cifar10.NETWORKS)


def on(c):
  """The experiment c of CIFAR-10 on CINIC-10."""
  data.cinic10(c)
  c.augment.fill = data.CINIC10_MEAN
  fedgkt_cifar10.baselines(c)
  return c
