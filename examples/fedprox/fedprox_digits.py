"""FedProx beside FedAvg, on the quickstart's clients. In this folder:

kdjax --config=fedprox_digits.py --workdir=runs/fedprox
"""

from kdjax.configs import mhd_digits


def get_config():
  """The experiment of mhd_digits.py with another method."""
  c = mhd_digits.get_config()
  c.start.common = True  # the server's first broadcast
  c.algorithm = "fedprox:METHOD"
  c.algo = dict(mu=0.1, local_steps=20)
  c.compare = ("fedavg",)
  return c
