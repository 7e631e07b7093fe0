"""Pairwise transfer on scikit-learn's handwritten digits: the paper's half mesh, small.

Goldstein et al., 2020. Clients 0 and 1 know the digits 0-2 and 3-5; client 2 knows 6-9, has seen
5 % of everything, and learns from both. Under a minute on two cores, with what it is compared with.

  python -m kdjax.main --config=configs/pairwise_digits.py --workdir=runs/pairwise_digits

A round is an epoch of client 2, which holds most, and an epoch of transfer: 20 batches each, so
that every evaluation comes right after a transfer. `separate` goes through as many batches; for
client 2 these are as many examples, for the others, who rest where their list is short, more. What
the same rounds are without transfer, example by example: --config.graph.kind=none.

Remote accuracy hangs on the maps' step size: a few times larger, and what a map does in an epoch
destroys more than the sources can teach.

Other meshes of the paper, by override:
  full        --config.graph.edges='((2, 0), (2, 1), (1, 0), (1, 2))'
  transitive  --config.graph.edges='((1, 0), (2, 1))'
"""

from kdjax.algorithms import pairwise
from kdjax.configs import common, data


def get_config(words=""):
  """The experiment."""
  c = common.base()
  c.replicas = 3
  c.clients = ((3, "mlp", dict(hidden=(64, 32, 32), activation="relu")),)
  c.steps = 1_200
  c.batch = 32

  data.digits(c)
  c.public_share = 0.0
  c.skew = float("inf")
  c.primary = "explicit"
  c.primary_labels = ((0, 1, 2), (3, 4, 5), (6, 7, 8, 9))
  c.overlay = dict(share=0.05, clients=(2,))
  c.start.common = True

  c.graph.kind = "edges"
  c.graph.edges = ((2, 0), (2, 1))  # (target, source)
  c.algorithm = "pairwise"
  maps = common.adam(lr=5e-5, eps=1e-8)
  c.algo = common.algo(
    pairwise.Hyper(layers=("Dense_2",), alpha=0.1, beta=0.9, transfer_optim=maps)
  )
  c.compare = ("separate", "kd", "fedavg")
  c.baselines.gossip.graph = dict(c.graph, kind="complete")  # any two may meet
  c.optim = common.sgd(lr=0.02, clip=1.0, schedule="constant")

  c.log_every = 100
  c.evals.accuracy = dict(every=200, batch=360)
  c.evals.confusion = dict(every=200, batch=360)
  return common.crossed(c, words)
