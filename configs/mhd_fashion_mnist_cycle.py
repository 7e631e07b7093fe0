"""Transitive distillation on Fashion-MNIST; see mhd_digits_cycle.py and mhd_fashion_mnist.py.

python -m kdjax.main --config=configs/mhd_fashion_mnist_cycle.py --workdir=runs/fashion_cycle
"""

from kdjax.configs import common, mhd_digits_cycle, mhd_fashion_mnist


def get_config(words=""):
  """The cycle's split and graph on Fashion-MNIST."""
  c, cycle = mhd_fashion_mnist.get_config(), mhd_digits_cycle.get_config()
  ((_, model, arguments),) = c.clients
  c.clients = ((4, model, arguments),)
  c.primary, c.primary_labels = cycle.primary, cycle.primary_labels
  c.labels, c.skew = cycle.labels, cycle.skew
  c.steps = 2_000
  c.graph.kind = "cycle"
  c.algo.pool_size = 4
  c.compare = ()
  return common.crossed(c, words)
