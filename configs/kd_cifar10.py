"""Real-time distillation on CIFAR-10: a baseline of pairwise transfer.

The experiment and the split of pairwise_cifar10.py with another method.

  python -m kdjax.main --config=configs/kd_cifar10.py \\
      --workdir=runs/kd_cifar10
"""

from configs import common, pairwise_cifar10


def get_config():
  """The experiment of pairwise_cifar10.py with another method."""
  return common.with_method(pairwise_cifar10.get_config(), "kd")
