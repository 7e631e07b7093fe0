"""FedGKT on scikit-learn's handwritten digits: four small edges and a larger server, Dir(0.5).

Follows He, Annavaram and Avestimehr, NeurIPS 2020, Table 1, at small scale: no download, about half
a minute on two cores.

  python -m kdjax.main --config=configs/fedgkt_digits.py --workdir=runs/fedgkt_digits

Shared accuracy of three seeds, percent: 86 +- 7 (edges' own classifiers 32). To compare with: 35 of
the edges alone (separate_fedgkt_digits.py), 97 of FedAvg with the full network
(fedavg_fedgkt_digits.py), 98.5 of the full and 89 of the edge network on all data
(supervised_fedgkt_digits.py). IID (--config.partition=equal): 97.5.

Not as in the published code: a server's batch mixes clients (--config.algo.order=client: 74), and
the edges start alike, but untrained (--config.start.common=False: 73). Only the server teaches, as
in the paper's best CIFAR-10 runs (--config.algo.server_distils=True: 71).
"""

from configs import common

NETWORKS = {
  "edge": ("split_cnn:Edge", dict(width=8, widths=(8,))),
  "full": ("split_cnn", dict(width=8, widths=(32, 64))),
}


def get_config():
  """The experiment."""
  c = common.base()
  c.replicas = 3
  c.clients = ((4, *NETWORKS["edge"]),)
  c.model = dict(norm="batch", dtype="float32", project=0)
  c.rounds = 20
  c.batch = 32

  c.source = "digits"
  c.source_info = dict(train=1_437, test=360, image=(8, 8, 1), classes=10, resize=False)
  c.public_share = 0.0
  c.partition = "dirichlet"
  c.alpha = 0.5

  c.start.common = True
  c.graph.kind = "none"  # clients learn from the server alone
  c.algorithm = "fedgkt"
  server = ("split_cnn:Server", dict(c.model, widths=(32, 64)))
  c.algo = common.fedgkt(server, server_epochs=2, server_batch=32)
  c.algo.order, c.algo.server_distils = "shuffled", False
  c.compare_algo.fedavg = dict(local_steps=12, momentum="reset")  # about a pass
  c.optim = common.adam(lr=3e-3, eps=1e-8, weight_decay=1e-4, amsgrad=True)

  c.log_every = 100
  c.evals.accuracy = dict(every=0, batch=360)
  return c
