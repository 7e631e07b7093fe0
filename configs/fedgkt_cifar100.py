"""FedGKT as published: 16 ResNet-8 edges and a ResNet-55 server, IID CIFAR-100.

He, Annavaram and Avestimehr, NeurIPS 2020, Table 1: 69.57 %, against 68.09 % for FedAvg, 69.73 %
and 37.67 % for ResNet-56 and ResNet-8 on all data. On a non-IID split that is not printed: 63.76 %.

  python -m kdjax.main --config=configs/fedgkt_cifar100.py --workdir=runs/fedgkt_cifar100

Needs the data: `tfds build cifar100 --file_format=array_record`, or --config.source=cifar:DIR with
the official binary version. Not run by us: it is meant for an accelerator.

Non-IID: fedgkt_cifar100_skewed.py. The start of the published extractors: fedgkt_cifar10.py.
"""

from kdjax.configs import common, data, fedgkt_cifar10, fedgkt_cifar10_iid


def get_config(words=""):
  """The experiment of fedgkt_cifar10_iid.py with 100 classes."""
  c = fedgkt_cifar10_iid.get_config()
  data.cifar100(c)
  c.augment.fill = data.CIFAR100_MEAN
  c.algo.server_distils = True  # 'Both' of Table 2, its best on this set
  return common.crossed(c, words, fedgkt_cifar10.NETWORKS)
