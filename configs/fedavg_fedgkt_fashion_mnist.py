"""FedAvg on the split of fedgkt_fashion_mnist.py, with the full network on every edge.

  python -m kdjax.main --config=configs/fedavg_fedgkt_fashion_mnist.py \\
      --workdir=runs/fedavg_fedgkt_fashion_mnist
"""

from configs import common, fedgkt_fashion_mnist


def get_config():
  """The experiment of fedgkt_fashion_mnist.py with another method and the large network."""
  c = common.with_network(fedgkt_fashion_mnist.get_config(), fedgkt_fashion_mnist.NETWORKS["full"])
  return common.with_method(c, "fedavg")
