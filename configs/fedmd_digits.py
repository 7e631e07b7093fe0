"""FedMD on digits: the clients of mhd_digits.py agree on logits instead. About 20 s on two cores.

Li and Wang, 2019. No public label is used, so there is no pre-training on the public set.

  python -m kdjax.main --config=configs/fedmd_digits.py --workdir=runs/fedmd_digits
"""

from kdjax.algorithms import fedmd
from kdjax.configs import common, mhd_digits


def get_config(words=""):
  """The experiment of mhd_digits.py with another method; rounds in place of steps."""
  c = mhd_digits.get_config()
  c.steps, c.rounds = 0, 20
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
  return common.crossed(c, words)
