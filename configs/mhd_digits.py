"""MHD on scikit-learn's handwritten digits: five clients, two primary labels each, s = 100.

The quickstart: no download, 52 s on two cores, most of it compilation. Follows Zhmoginov et al.,
CVPR 2023, Table 1 and Fig. 4 at small scale. Its networks, loss weights and rate are the recipe of
all small MHD experiments, chosen on parts of the training sets (docs/methods/mhd.md).

  python -m kdjax.main --config=configs/mhd_digits.py --workdir=runs/digits
"""

from kdjax.algorithms import mhd
from kdjax.configs import common, data


def get_config(words=""):
  """The experiment."""
  c = common.base()
  c.replicas = 3
  c.clients = ((5, "mlp", dict(hidden=(64, 64, 32), activation="tanh")),)
  c.model.norm = "batch"
  c.steps = 2_000
  c.batch = 32
  c.public_batch = 32

  data.digits(c)
  c.public_share = 0.3
  c.skew = 100.0
  c.primary = "even"
  c.labels = 2

  c.algorithm = "mhd"
  hyper = mhd.Hyper(
    aux_heads=3,
    nu_emb=1.0,
    nu_aux=1.0,  # the paper's 3 is too much for batches of 32
    pool_size=5,
    refresh_every=20,
    pool_start="empty",
    speak_in="evaluation",
    public_statistics=True,  # private batches alone hold two classes of ten, too few for BatchNorm
  )
  c.algo = common.algo(hyper)
  c.compare = ("separate", "fedavg")
  c.optim = common.sgd(lr=0.02, clip=0.0)

  c.log_every = 100
  c.evals.accuracy = dict(every=200, batch=360)
  return common.crossed(c, words)
