"""Supervised training of fedgkt_fashion_mnist.py's networks: one client holds all data.

  python -m kdjax.main --config=configs/supervised_fedgkt_fashion_mnist.py --workdir=runs/full
  python -m kdjax.main --config=configs/supervised_fedgkt_fashion_mnist.py:edge --workdir=runs/edge

The first trains the full network, the second the edges'.
"""

from configs import common, fedgkt_fashion_mnist


def get_config(network="full"):
  """The data of fedgkt_fashion_mnist.py, pooled; `network` is 'full' or 'edge'."""
  c = common.with_network(fedgkt_fashion_mnist.get_config(), fedgkt_fashion_mnist.NETWORKS[network])
  c.steps, c.rounds = 3_000, 0
  return common.pooled(c)
