"""FedGKT on Fashion-MNIST, 10,000 training images: eight edges and a larger server, Dir(0.5).

Follows He, Annavaram and Avestimehr, NeurIPS 2020, Table 1, at small scale; about three minutes per
seed on one core. Needs the data:

  tfds build fashion_mnist --file_format=array_record      (pip install ".[prepare]", once)
  python -m kdjax.main --config=configs/fedgkt_fashion_mnist.py --workdir=runs/fedgkt_fashion_mnist

or the four official files with --config.source=idx:DIR, or --config.source=npz:FILE. IID:
--config.partition=equal. With --config.optim.lr=0 the edges keep their first weights: a control
that shows whether the task needs the edges' learning.

An extractor turns 784 pixels into 16 numbers, for the reason in fedgkt_digits.py. Shared accuracy
of the server on 2,000 held-out training images, percent, seed 100, by the edges' rate:

  IID       frozen 60.6; 3e-3 76.1; 1e-2 77.2
  Dir(0.5)  frozen 58.5; 1e-4 45.5; 3e-3 50.4

For IID use --config.optim.lr=0.01. Under skew frozen edges remain ahead on this set too. With
extractors of 64 numbers, IID, a server learns nearly as much from frozen ones: 76.7 against 79.0.
"""

from kdjax.algorithms import fedgkt
from kdjax.configs import common, data, fedgkt_digits

FRONT = ((8, 2), (8, 2), (8, 2), (4, 2))  # (channels, stride) of the extractor's layers


def networks(front):
  """The edge's network and the full one, with an extractor's layers in front."""
  return {
    "edge": ("split_cnn:Edge", dict(front=front, widths=(16,))),
    "full": ("split_cnn", dict(front=front, widths=(64, 128))),
  }


def get_config(words=""):
  """The experiment."""
  c = small(networks(FRONT))
  data.fashion_mnist(c)
  c.limit = 10_000
  return common.crossed(c, words, networks(FRONT))


def small(chosen):
  """Eight edges on a Dir(0.5) split, without a data set; `chosen` is the result of `networks`."""
  c = common.base()
  c.clients = ((8, *chosen["edge"]),)
  c.model = dict(norm="batch", dtype="float32", project=0)
  c.rounds = 6
  c.batch = 64

  c.public_share = 0.0
  c.partition = "dirichlet"
  c.alpha = 0.5

  c.start.common = True
  c.graph.kind = "none"  # clients learn from the server alone
  c.algorithm = "fedgkt"
  server = ("split_cnn:Server", dict(c.model, widths=chosen["full"][1]["widths"]))
  c.optim = common.adam(lr=3e-3, eps=1e-8, weight_decay=1e-4, amsgrad=True)
  c.algo = common.algo(
    fedgkt.Hyper(
      server=server,
      server_optim=c.optim.to_dict(),
      edge_epochs=4,
      server_epochs=2,
      server_batch=128,
      order="shuffled",
      server_distils=False,
    )
  )

  c.log_every = 500
  c.evals.accuracy = dict(every=0, batch=2_000)
  fedgkt_digits.baselines(c, chosen, local_steps=80, supervised_steps=1_500)
  return c
