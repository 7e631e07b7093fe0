"""The harm by one or three of eight clients that falsify everything they send (digits).

The quickstart's data, and its network without a norm; eight clients with two primary labels each,
s = 10. The five lies are those of kdjax/core/hostile.py. Accuracies are those of the honest
clients. There is no published number. Two minutes on two cores. The table of docs/privacy.md comes
from these commands, one run each:

  python -m kdjax.main --config=configs/hostile_digits.py --workdir=runs/hostile/mhd
  kdjax --config=hostile_digits:METHOD,graph=KIND --workdir=runs/hostile/METHOD-KIND

METHOD: fresh (MHD by all clients' current predictions), fedmd, fedavg, kd, gossip; KIND: complete,
cycle.
"""

from kdjax.configs import common, fedmd_digits, mhd_digits

LIES = ("permuted", "least", "constant", "confident", "flipped")
LIARS = ((7,), (5, 6, 7))


def get_config(words=""):
  """Eight honest clients, and variants with hostile ones."""
  c = mhd_digits.get_config()
  c.clients = ((8, *c.clients[0][1:]),)
  c.model.norm, c.optim = "none", common.sgd(lr=0.02, clip=1.0)
  c.algo.update(nu_emb=0.0, nu_aux=3.0, pool_start="first", public_statistics=False)
  c.primary, c.skew = "random", 10.0
  c.steps = 1_000
  fresh = dict(c.algo.to_dict(), exchange="fresh", teachers=3)
  c.baselines.fresh = dict(algorithm="mhd", algo=fresh)
  c.baselines.fedmd = dict(algorithm="fedmd", algo=fedmd_digits.get_config().algo.to_dict())
  c.baselines.fedmd.update(steps=0, rounds=30)
  for name, rounds in (("kd", 80), ("gossip", 160)):
    c.baselines[name].update(steps=0, rounds=rounds)
  c.log_every, c.evals.accuracy.every = 500, 1_000
  c = common.crossed(c, words)
  c.compare = {
    f"{kind} {len(who)}": dict(hostile=dict(kind=kind, clients=who))
    for who in LIARS
    for kind in LIES
  }
  return c
