"""FedMD on digits: the clients of mhd_digits.py agree on logits instead.

Li and Wang, 2019. No public label is used, so there is no pre-training on the public set. The
network has no norm, and gradients are clipped: where clients hold two labels of ten, BatchNorm
costs FedMD 10 points on held-out images (docs/methods/index.md). About a minute on two cores.

  python -m kdjax.main --config=configs/fedmd_digits.py --workdir=runs/fedmd_digits

To compare with, on the same private data: fedmd_digits.py:separate, :supervised, :mhd.
"""

from kdjax.algorithms import fedmd
from kdjax.configs import common, mhd_digits


def get_config(words=""):
  """The experiment of mhd_digits.py with another method; rounds in place of steps."""
  return common.crossed(agreed(mhd_digits.get_config(), rounds=77), words)


def agreed(c, rounds):
  """MHD's experiment c with FedMD in its place, and its baselines.

  FedMD makes ten passes over the private data, then four per round. `rounds` is chosen so that it
  takes as many private examples as the baselines, which all take the same number.
  """
  length = dict(steps=c.steps, rounds=0)
  own = dict(algo=c.algo.to_dict(), optim=c.optim.to_dict(), model=c.model.to_dict())
  c.baselines.mhd = dict(length, algorithm="mhd", **own)
  c.steps, c.rounds = 0, rounds
  c.compare = ()
  c.algorithm = "fedmd"
  hyper = fedmd.Hyper(
    public_epochs=0,
    private_epochs=10,
    private_batch=32,
    alignment=400,
    digest_epochs=1,
    digest_batch=32,
    revisit_epochs=4,
  )
  c.algo = common.algo(hyper)
  c.model.norm = "none"
  c.optim = common.sgd(lr=0.02, clip=1.0, schedule="constant")
  c.baselines.separate.update(length)
  c.baselines.fedavg.update(length)
  c.baselines.supervised = dict(common.pooled(c), **length)
  return c
