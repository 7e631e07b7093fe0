"""Every method on one split of the digits, from one start, with as many private examples a client.

Five clients, two primary labels each, s = 100, as in mhd_digits.py; one small perceptron, which
FedGKT cuts after its first layer. About 64,000 private examples go through a model for each client
(318 passes over its part), whatever the method does with them; summary.json counts them. Learning
rate 0.02 and clipping throughout; no method was tuned on this split. Two to three minutes on two
cores.

  python -m kdjax.main --config=configs/all_digits.py --workdir=runs/all_digits
  python -m kdjax.report.seeds runs/all_digits

Asynchronous edge learning has one model to show, the core's: client 0 is the core.
"""

from kdjax.algorithms import async_edge, fedgkt, pairwise
from kdjax.configs import common, fedmd_digits, mhd_digits


def get_config(words=""):
  """The quickstart's experiment beside all other methods."""
  c = mhd_digits.get_config()
  c.replicas = 3
  c.start.common = True
  c.model.norm = "none"
  c.optim = common.sgd(lr=0.02, clip=1.0, schedule="constant")
  c.algo.update(nu_emb=0.0, nu_aux=3.0, public_statistics=False)  # of networks without a norm
  c.compare = ("separate", "fedavg", "fedmd", "fedgkt", "async_edge", "pairwise", "kd", "gossip")
  server = ("mlp", dict(c.model, hidden=(128, 64), activation="tanh"))
  methods = dict(
    fedgkt=fedgkt.Hyper(
      server=server,
      server_optim=c.optim.to_dict(),
      cut="layer1",
      edge_epochs=4,
      server_epochs=4,
      server_batch=32,
      order="shuffled",
    ),
    async_edge=async_edge.Hyper(ensemble=1, core_epochs=38, edge_epochs=159, distil_epochs=35),
    pairwise=pairwise.Hyper(
      layers=("Dense_1",),
      alpha=0.1,
      beta=0.9,
      maps="fresh",
      transfer_optim=common.adam(lr=5e-5, eps=1e-8),
    ),
  )
  c.baselines.fedmd = dict(algorithm="fedmd", algo=fedmd_digits.get_config().algo)
  for name, hyper in methods.items():
    c.baselines[name] = dict(algorithm=name, algo=common.algo(hyper))
  rounds = dict(fedmd=77, fedgkt=64, async_edge=8, pairwise=159, kd=159, gossip=318)
  for name, number in rounds.items():
    c.baselines[name].update(steps=0, rounds=number)
  c.evals.accuracy.every = 1_000
  return common.crossed(c, words)
