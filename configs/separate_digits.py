"""Separate training on digits: the lower baseline.

The experiment and the split of mhd_digits.py with another method.

  python -m kdjax.main --config=configs/separate_digits.py \\
      --workdir=runs/separate_digits
"""

from configs import common, mhd_digits


def get_config():
  """The experiment of mhd_digits.py with another method."""
  return common.with_method(mhd_digits.get_config(), "separate")
