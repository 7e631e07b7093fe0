"""The edges of fedgkt_digits.py on digits, each alone: the lower baseline.

  python -m kdjax.main --config=configs/separate_fedgkt_digits.py \\
      --workdir=runs/separate_fedgkt_digits
"""

from configs import common, fedgkt_digits


def get_config():
  """The experiment of fedgkt_digits.py with another method; as many steps as FedAvg's."""
  c = fedgkt_digits.get_config()
  c.steps, c.rounds = c.rounds * c.compare_algo.fedavg.local_steps, 0
  return common.with_method(c, "separate")
