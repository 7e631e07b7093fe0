"""Gossip on digits: a baseline of pairwise transfer, in which any two may meet.

The experiment and the split of pairwise_digits.py with another method: random pairs
average, or, with --config.algo.variant=admm, agree as in CL-ADMM.

  python -m kdjax.main --config=configs/gossip_digits.py \\
      --workdir=runs/gossip_digits
"""

from configs import common, pairwise_digits


def get_config():
  """The experiment of pairwise_digits.py with another method and a complete graph."""
  c = common.with_method(pairwise_digits.get_config(), "gossip")
  c.graph.kind = "complete"
  return c
