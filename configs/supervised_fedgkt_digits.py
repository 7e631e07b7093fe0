"""Supervised training of fedgkt_digits.py's networks: one client holds all data.

  python -m kdjax.main --config=configs/supervised_fedgkt_digits.py --workdir=runs/full
  python -m kdjax.main --config=configs/supervised_fedgkt_digits.py:edge --workdir=runs/edge

The first trains the full network, the second the edges'.
"""

from configs import common, fedgkt_digits


def get_config(network="full"):
  """The data of fedgkt_digits.py, pooled; `network` is 'full' or 'edge'."""
  c = common.with_network(fedgkt_digits.get_config(), fedgkt_digits.NETWORKS[network])
  c.steps, c.rounds = 900, 0
  return common.pooled(c)
