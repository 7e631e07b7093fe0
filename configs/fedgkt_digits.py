"""FedGKT on scikit-learn's handwritten digits: four small edges and a larger server, Dir(0.5).

Follows He, Annavaram and Avestimehr, NeurIPS 2020, Table 1, at small scale. No download; about half
a minute on two cores.

  python -m kdjax.main --config=configs/fedgkt_digits.py --workdir=runs/fedgkt_digits

To compare with: the edges alone (:separate), FedAvg with the full network (:fedavg), the full and
the edge network on all data (:supervised; :supervised,network=edge). IID: --config.partition=equal.
Numbers: docs/results.md.

Differences from the published code: a server's batch mixes clients (--config.algo.order=client does
not), and the edges start from the same untrained weights (--config.start.common=False: from
different ones). Only the server teaches, as in the paper's best CIFAR-10 runs
(--config.algo.server_distils=True: both teach).

An extractor turns 64 pixels into 16 numbers. With wide features, a server learns as much from edges
that keep their first weights (--config.optim.lr=0), so that nothing an edge learns can be measured.
The server's shared accuracy on 300 held-out training images, percent, seeds 100 to 102, by the
edges' rate:

  IID       frozen 72.6; 3e-4 69.9; 1e-3 75.5; 3e-3 83.9; 1e-2 88.7
  Dir(0.5)  frozen 67.1; 3e-4 53.6; 1e-3 52.5; 3e-3 55.5

For IID use --config.optim.lr=0.01. Under skew frozen edges remain ahead, because one server serves
extractors that drift apart. On a client's own mix of classes the trained extractor is better
(private accuracy 91.3 against 70.6).
"""

from kdjax.algorithms import fedgkt
from kdjax.configs import common, data

FRONT = ((8, 2), (8, 2), (4, 1))  # (channels, stride) of the extractor's layers


def networks(front):
  """The edge's network and the full one, with an extractor's layers in front."""
  return {
    "edge": ("split_cnn:Edge", dict(front=front, widths=(8,))),
    "full": ("split_cnn", dict(front=front, widths=(32, 64))),
  }


def get_config(words=""):
  """The experiment."""
  return common.crossed(experiment(networks(FRONT)), words, networks(FRONT))


def experiment(chosen):
  """Four edges on a Dir(0.5) split of the digits; `chosen` as `networks` gives it."""
  c = common.base()
  c.replicas = 3
  c.clients = ((4, *chosen["edge"]),)
  c.model = dict(norm="batch", dtype="float32", project=0)
  c.rounds = 20
  c.batch = 32

  data.digits(c)
  c.public_share = 0.0
  c.partition = "dirichlet"
  c.alpha = 0.5

  c.start.common = True
  c.graph.kind = "none"  # clients learn from the server alone
  c.algorithm = "fedgkt"
  server = ("split_cnn:Server", dict(c.model, widths=(32, 64)))
  c.optim = common.adam(lr=3e-3, eps=1e-8, weight_decay=1e-4, amsgrad=True)
  c.algo = common.algo(
    fedgkt.Hyper(
      server=server,
      server_optim=c.optim.to_dict(),
      server_epochs=2,
      server_batch=32,
      order="shuffled",
      server_distils=False,
    )
  )

  c.log_every = 100
  c.evals.accuracy = dict(every=0, batch=360)
  baselines(c, chosen, local_steps=12, supervised_steps=14_400)
  return c


def baselines(c, chosen, local_steps, supervised_steps):
  """FedAvg with the full network, `local_steps` per round; edges alone; the full one on all data.

  The last baseline is an upper bound for the method, so it trains until more steps gain little.
  Shared accuracy on 300 held-out training images, percent, seeds 100 to 102, IID, after 3,600,
  14,400 and 28,800 steps: the full network 96.4, 96.6, 97.5, the edge's 96.8, 97.1, 98.3; with the
  features of fedgkt_digits_wide.py 99.5, 99.3, 99.3 and 94.0, 97.2, 97.7.
  """
  algo, optim = dict(local_steps=local_steps, momentum="reset"), c.algo.server_optim.to_dict()
  full = common.network(c, chosen["full"])
  c.baselines.fedavg.update(algo=algo, clients=full, optim=optim)
  c.baselines.separate.update(steps=c.rounds * local_steps, rounds=0, optim=optim)
  c.baselines.supervised = dict(
    common.pooled(c, chosen["full"]), steps=supervised_steps, rounds=0, optim=optim
  )
