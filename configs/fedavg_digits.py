"""FedAvg on digits: the upper baseline.

The experiment and the split of mhd_digits.py with another method.

  python -m kdjax.main --config=configs/fedavg_digits.py \\
      --workdir=runs/fedavg_digits
"""

from configs import common, mhd_digits


def get_config():
  """The experiment of mhd_digits.py with another method."""
  return common.with_method(mhd_digits.get_config(), "fedavg")
