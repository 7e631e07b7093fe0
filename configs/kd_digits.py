"""Real-time distillation on digits: a baseline of pairwise transfer.

The experiment and the split of pairwise_digits.py with another method.

  python -m kdjax.main --config=configs/kd_digits.py \\
      --workdir=runs/kd_digits
"""

from configs import common, pairwise_digits


def get_config():
  """The experiment of pairwise_digits.py with another method."""
  return common.with_method(pairwise_digits.get_config(), "kd")
