"""Every method on one split of the digits, with equally many private examples per client.

Five clients, two primary labels each, s = 100, as in mhd_digits.py; one small perceptron, which
FedGKT cuts after its first layer. In every method about 64,000 private examples per client go
through a model (318 passes over its part); summary.json counts them. MHD has its own recipe. The
others share a network without a norm, clipping and a constant rate, except FedGKT, which needs
BatchNorm and a third of that rate. They were chosen among twelve settings on held-out images
(docs/methods/index.md). Two to three minutes on two cores.

  python -m kdjax.main --config=configs/all_digits.py --workdir=runs/all_digits

Asynchronous edge learning is evaluated by one model, the core's; client 0 is the core. An edge has
one model, so that its examples count as in the other methods: CPM in the terms of Lee et al., not
CEM.
"""

from kdjax.algorithms import async_edge, fedgkt, pairwise
from kdjax.configs import common, fedmd_digits, mhd_digits


def get_config(words=""):
  """The quickstart's experiment, with all other methods to compare."""
  c = mhd_digits.get_config()
  c.evals.accuracy.every = 1_000
  return common.crossed(beside(c, passes=318), words)


def beside(c, passes):
  """An MHD experiment and all other methods, each with `passes` passes over a client's examples."""
  c.replicas = 3
  c.start.common = True
  c.compare = ("separate", "fedavg", "fedmd", "fedgkt", "async_edge", "pairwise", "kd", "gossip")
  plain = dict(
    model=c.model.to_dict() | dict(norm="none"),
    optim=common.sgd(lr=0.02, clip=1.0, schedule="constant"),
  )
  fedgkts = dict(
    model=c.model.to_dict(), optim=common.sgd(lr=0.00667, clip=1.0, schedule="constant")
  )
  server = ("mlp", fedgkts["model"] | dict(hidden=(128, 64), activation="tanh"))
  core, private = round(0.12 * passes), 10  # passes before the rounds of async_edge and of FedMD
  methods = dict(
    fedmd=fedmd_digits.get_config().algo.to_dict(),
    fedgkt=fedgkt.Hyper(
      server=server,
      server_optim=fedgkts["optim"],
      cut="layer1",
      edge_epochs=4,
      server_epochs=4,
      server_batch=32,
      order="shuffled",
    ),
    async_edge=async_edge.Hyper(
      ensemble=1,
      core_epochs=core,
      edge_epochs=passes // 2,
      distil_epochs=(passes - core) // 8,
    ),
    pairwise=pairwise.Hyper(
      layers=("Dense_1",),
      alpha=0.1,
      beta=0.9,
      maps="fresh",
      transfer_optim=common.adam(lr=5e-5, eps=1e-8),
    ),
  )
  for name, hyper in methods.items():
    algo = hyper if isinstance(hyper, dict) else common.algo(hyper)
    c.baselines[name] = dict(algorithm=name, algo=algo)
  rounds = dict(  # passes divided by passes per round
    fedmd=(passes - private) // 4,
    fedgkt=passes // 5,
    async_edge=8,
    pairwise=passes // 2,
    kd=passes // 2,
    gossip=passes,
  )
  for name, number in rounds.items():
    c.baselines[name].update(steps=0, rounds=number)
  for name in c.compare:
    c.baselines[name].update(fedgkts if name == "fedgkt" else plain)
  return c
