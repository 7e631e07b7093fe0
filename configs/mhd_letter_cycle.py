"""Transitive distillation over five hops: thirteen clients on a cycle, two capitals each.

Follows Zhmoginov et al., CVPR 2023, Section 4.4 and Fig. 6, whose cycle has four clients. This one
has five auxiliary heads, so that knowledge can travel five hops. Data: see mhd_letter.py.

Every hop loses more than the one before (docs/results.md, claim hops_further). More training does
not help: on 2,000 held-out training rows, seed 100, heads 1 to 5 end at 12.0, 14.1, 14.6, 14.6 and
14.2 % shared accuracy, and after four times the steps at 12.1, 14.4, 15.1, 15.0 and 15.0 %.

  python -m kdjax.main --config=configs/mhd_letter_cycle.py --workdir=runs/letter_cycle \\
      --config.source=npz:letter.npz
"""

from kdjax.configs import common, mhd_digits_cycle, mhd_letter


def get_config(words=""):
  """The letters' clients with the cycle's kind of split, its graph and two more heads."""
  c, cycle = mhd_letter.get_config(), mhd_digits_cycle.get_config()
  ((clients, *_),) = c.clients
  c.primary = cycle.primary
  c.primary_labels = tuple((2 * i, 2 * i + 1) for i in range(clients))
  c.labels, c.skew = cycle.labels, cycle.skew
  c.graph.kind = cycle.graph.kind
  c.algo.aux_heads = 5
  c.algo.teachers = 1  # the number of a client's teachers on a cycle
  c.algo.pool_size = cycle.algo.pool_size
  c.compare = ()
  return common.crossed(c, words)
