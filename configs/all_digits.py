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

from configs import common, fedmd_digits, mhd_digits


def get_config():
  """The quickstart's experiment beside all other methods."""
  c = mhd_digits.get_config()
  c.replicas = 3
  c.start.common = True
  c.optim.schedule = "constant"
  c.compare = ("separate", "fedavg", "fedmd", "fedgkt", "async_edge", "pairwise", "kd", "gossip")
  c.compare_rounds = dict(fedmd=77, fedgkt=64, async_edge=8, pairwise=159, kd=159, gossip=318)
  server = ("mlp", dict(c.model, hidden=(128, 64), activation="tanh"))
  c.compare_algo.fedmd = fedmd_digits.get_config().algo
  c.compare_algo.fedgkt = common.fedgkt(server, server_epochs=4, server_batch=32)
  c.compare_algo.fedgkt.update(cut="layer1", order="shuffled", edge_epochs=4)
  c.compare_algo.async_edge = dict(
    common.async_edge(epochs=35), core_epochs=38, ensemble=1, edge_epochs=159
  )
  c.compare_algo.pairwise = common.pairwise("Dense_1", alpha=0.1, map_lr=5e-5)
  c.compare_algo.kd = dict(alpha=0.5, beta=0.5, local_epochs=1, distil_epochs=1)
  c.evals.accuracy.every = 1_000
  return c
