"""Supervised training of fedgkt_cifar10.py's networks: one client holds all data.

He, Annavaram and Avestimehr, NeurIPS 2020, Tables 1 and 10: 93.05 % ResNet-56, 78.94 % ResNet-8.

  python -m kdjax.main --config=configs/supervised_fedgkt_cifar10.py --workdir=runs/full
  python -m kdjax.main --config=configs/supervised_fedgkt_cifar10.py:edge --workdir=runs/edge

The full network's extractor may be what FedGKT's edges start from, as in the published code; see
fedgkt_cifar10.py. Not run by us: it is meant for an accelerator.
"""

from configs import common, fedgkt_cifar10

EPOCHS, EXAMPLES = 300, 50_000


def get_config(network="full"):
  """The data of fedgkt_cifar10.py, pooled; `network` is 'full' or 'edge'."""
  c = common.with_network(fedgkt_cifar10.get_config(), fedgkt_cifar10.NETWORKS[network])
  c.steps, c.rounds = round(EPOCHS * EXAMPLES / c.batch), 0
  c.optim = common.adam(lr=3e-3, eps=1e-8, weight_decay=1e-4, amsgrad=True)
  c.evals.accuracy.every = 1_000
  return common.pooled(c)
