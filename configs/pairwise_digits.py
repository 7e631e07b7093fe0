"""Pairwise transfer on scikit-learn's handwritten digits: the paper's half mesh, small.

Goldstein et al., 2020. Clients 0 and 1 hold the digits 0-2 and 3-5. Client 2 holds 6-9 and 5 % of
everything, and learns from both. Under a minute on two cores, baselines included.

  python -m kdjax.main --config=configs/pairwise_digits.py --workdir=runs/pairwise_digits

A round is an epoch of client 2, which holds most, and an epoch of transfer: 18 batches each (17 for
some seeds), so that evaluations show both curves, after the local and after the transfer epoch.
`separate` takes equally many batches. For client 2 these are equally many examples. For the other
clients, which rest where their list is short, they are more. --config.graph.kind=none runs the same
rounds without transfer, example by example.

Controls: a tenth of the training images is held out (`public_share`). On it the evaluator
`prior_offset` chooses an offset on the logits, which needs no transfer.
--config.algorithm=pairwise:ZEROED and pairwise:RANDOM receive no learned weights. Numbers:
docs/results.md. The network has no norm. On held-out images BatchNorm gains pairwise transfer 1 to
3 points, and costs the averaging baselines 10 and more (docs/methods/index.md).

Remote accuracy depends on the maps' step size. With a ten times larger one, a map's change in an
epoch destroys more than the sources can teach. Maps that persist (--config.algo.maps=kept, as in
the paper) are applied again in every round, so that their changes compound and they need a tenth of
the step size.

Other meshes of the paper, by override:
  full        --config.graph.edges='((2, 0), (2, 1), (1, 0), (1, 2))'
              client 0 has no teacher, as in the authors' notebook
  transitive  --config.graph.edges='((1, 0), (2, 1))'
"""

from kdjax.algorithms import pairwise
from kdjax.configs import common, data


def get_config(words=""):
  """The experiment."""
  c = common.base()
  c.replicas = 3
  c.clients = ((3, "mlp", dict(hidden=(64, 32, 32), activation="relu")),)
  c.rounds = 30
  c.batch = 32

  data.digits(c)
  c.public_share = 0.1  # held out for the control by an offset
  c.skew = float("inf")
  c.primary = "explicit"
  c.primary_labels = ((0, 1, 2), (3, 4, 5), (6, 7, 8, 9))
  c.overlay = dict(share=0.05, clients=(2,))
  c.start.common = True

  c.graph.kind = "edges"
  c.graph.edges = ((2, 0), (2, 1))  # (target, source)
  c.algorithm = "pairwise"
  maps = common.adam(lr=1e-4, eps=1e-8)
  c.algo = common.algo(
    pairwise.Hyper(layers=("Dense_2",), alpha=0.1, beta=0.9, maps="fresh", transfer_optim=maps)
  )
  c.compare = ("separate", "kd", "fedavg")
  c.baselines.gossip.graph = dict(c.graph, kind="complete")  # any two clients may meet
  as_long(c, epoch=18)
  c.optim = common.sgd(lr=0.02, clip=1.0, schedule="constant")

  c.log_every = 100
  c.evals.accuracy = dict(every=18, batch=360)
  c.evals.confusion = dict(every=18, batch=360)
  c.evals.prior_offset = dict(every=18, batch=360)
  return common.crossed(c, words)


def as_long(c, epoch):
  """Gives the baselines as many batches as the rounds have: two epochs of `epoch` batches each."""
  epochs = 2 * c.rounds
  c.baselines.separate.update(steps=epochs * epoch, rounds=0)
  c.baselines.fedavg.update(rounds=epochs)
  c.baselines.fedavg.algo.local_steps = epoch
  c.baselines.gossip.rounds = epochs  # of one epoch each
