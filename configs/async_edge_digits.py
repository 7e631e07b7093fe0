"""Asynchronous edge learning on digits: a core with 20 images learns from nine edges with 20 each.

Follows Lee, Yoo and Kwak, 2020, Fig. 5, on small images; three seeds side by side, about 10 s.

  python -m kdjax.main --config=configs/async_edge_digits.py --workdir=runs/async_edge_digits

The config is CEM, the variant that the paper recommends. The variants are settings of `algo`, here
with the test accuracy of the core after the ninth round, mean of seeds 0 to 2:

            init          ensemble   memory
  IsPP      scratch       1          1          64.7
  IPP       independent   1          1          67.7
  IEP       independent   3          1          68.1
  IPM       independent   1          3          70.6
  CPP       clone         1          1          79.3
  CEP       clone         3          1          78.6
  CPM       clone         1          3          82.2
  CEM       clone         3          3          82.3

For example, --config.algo.init=independent --config.algo.ensemble=1 --config.algo.memory=1 is IPP.
A model that arrives one round late (Fig. 7): --config.rounds=2
--config.algo.arrivals='((1, 0), (2, 1))'. Corrupted edges (Fig. 8): --config.algo.noisy='(4, 7)',
with --config.algo.corruption=fixed for labels that can be memorised. --config.algo.track=True also
evaluates members of the ensemble, the first edge (Fig. 6c) and the core before a distillation
(Figs. 4 and 9). The network has no norm, and gradients are clipped: on held-out images BatchNorm
costs the method 15 points (docs/methods/index.md).
"""

from kdjax.algorithms import async_edge
from kdjax.configs import common, data


def get_config(words=""):
  """The experiment."""
  c = common.base()
  c.replicas = 3
  c.clients = ((10, "mlp", dict(hidden=(64,), activation="relu")),)  # the core, then its edges
  c.rounds = 9
  c.batch = 10

  data.digits(c)
  c.limit = 200
  c.public_share = 0.0
  c.partition = "equal"

  c.graph.kind = "star"  # around the core
  c.algorithm = "async_edge"
  hyper = async_edge.Hyper(core_epochs=30, edge_epochs=30, distil_epochs=30)
  c.algo = common.algo(hyper)
  c.optim = common.sgd(lr=0.05, clip=1.0)

  c.log_every = 100
  c.evals.accuracy = dict(every=0, batch=360)
  c.evals.overlap = dict(every=0, batch=360)
  return common.crossed(c, words)
