"""Transitive distillation on digits: four clients on a cycle, split by class, three aux heads.

Zhmoginov et al., CVPR 2023, Section 4.4 and Fig. 6 at small scale: head k learns the classes of
the client at distance k, and no earlier head does. About 90 s on two cores for five seeds.

  python -m kdjax.main --config=configs/mhd_digits_cycle.py --workdir=runs/cycle
  ... --config.graph.kind=islands    the control: nothing crosses between islands
"""

from kdjax.configs import common, mhd_digits

CLASSES = ((0, 1, 2), (3, 4), (5, 6, 7), (8, 9))


def get_config(words=""):
  """The quickstart with another split and graph."""
  c = mhd_digits.get_config()
  c.replicas = 5
  ((_, model, arguments),) = c.clients
  c.clients = ((4, model, arguments),)
  c.primary, c.primary_labels = "explicit", CLASSES
  c.labels = 0
  c.skew = float("inf")
  c.graph.kind = "cycle"
  c.algo.pool_size = 4
  c.compare = ()
  return common.crossed(c, words)
