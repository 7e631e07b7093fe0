"""Gossip on CIFAR-10: a baseline of pairwise transfer, in which any two may meet.

The experiment and the split of pairwise_cifar10.py with another method: random pairs
average, or, with --config.algo.variant=admm, agree as in CL-ADMM.

  python -m kdjax.main --config=configs/gossip_cifar10.py \\
      --workdir=runs/gossip_cifar10
"""

from configs import common, pairwise_cifar10


def get_config():
  """The experiment of pairwise_cifar10.py with another method and a complete graph."""
  c = common.with_method(pairwise_cifar10.get_config(), "gossip")
  c.graph.kind = "complete"
  c.rounds *= 2  # of one epoch each, where a round of pairwise transfer has two
  return c
