"""The edges of fedgkt_fashion_mnist.py on Fashion-MNIST, each alone: the lower baseline.

  python -m kdjax.main --config=configs/separate_fedgkt_fashion_mnist.py \\
      --workdir=runs/separate_fedgkt_fashion_mnist
"""

from configs import common, fedgkt_fashion_mnist


def get_config():
  """The experiment of fedgkt_fashion_mnist.py with another method; as many steps as FedAvg's."""
  c = fedgkt_fashion_mnist.get_config()
  c.steps, c.rounds = c.rounds * c.compare_algo.fedavg.local_steps, 0
  return common.with_method(c, "separate")
