"""FedAvg on the split of fedgkt_digits.py, with the full network on every edge.

  python -m kdjax.main --config=configs/fedavg_fedgkt_digits.py \\
      --workdir=runs/fedavg_fedgkt_digits
"""

from configs import common, fedgkt_digits


def get_config():
  """The experiment of fedgkt_digits.py with another method and the large network."""
  c = common.with_network(fedgkt_digits.get_config(), fedgkt_digits.NETWORKS["full"])
  return common.with_method(c, "fedavg")
