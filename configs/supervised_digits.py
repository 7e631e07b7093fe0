"""Supervised training on digits: one client holds all private data.

The experiment of mhd_digits.py, pooled.

  python -m kdjax.main --config=configs/supervised_digits.py \\
      --workdir=runs/supervised_digits
"""

from configs import common, mhd_digits


def get_config():
  """The experiment of mhd_digits.py, pooled."""
  return common.pooled(mhd_digits.get_config())
