"""Real-time distillation on Fashion-MNIST: a baseline of pairwise transfer.

The experiment and the split of pairwise_fashion_mnist.py with another method.

  python -m kdjax.main --config=configs/kd_fashion_mnist.py \\
      --workdir=runs/kd_fashion_mnist
"""

from configs import common, pairwise_fashion_mnist


def get_config():
  """The experiment of pairwise_fashion_mnist.py with another method."""
  return common.with_method(pairwise_fashion_mnist.get_config(), "kd")
