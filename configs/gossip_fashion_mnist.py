"""Gossip on Fashion-MNIST: a baseline of pairwise transfer, in which any two may meet.

The experiment and the split of pairwise_fashion_mnist.py with another method: random pairs
average, or, with --config.algo.variant=admm, agree as in CL-ADMM.

  python -m kdjax.main --config=configs/gossip_fashion_mnist.py \\
      --workdir=runs/gossip_fashion_mnist
"""

from configs import common, pairwise_fashion_mnist


def get_config():
  """The experiment of pairwise_fashion_mnist.py with another method and a complete graph."""
  c = common.with_method(pairwise_fashion_mnist.get_config(), "gossip")
  c.graph.kind = "complete"
  return c
