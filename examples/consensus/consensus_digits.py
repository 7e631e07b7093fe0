"""The consensus beside MHD and separate training, on the quickstart's clients. In this folder:

kdjax --config=consensus_digits.py --workdir=runs/consensus
"""

from kdjax.configs import mhd_digits


def get_config():
  """The experiment of mhd_digits.py with another method."""
  c = mhd_digits.get_config()
  mhd = dict(algorithm="mhd", algo=c.algo.to_dict())
  c.algorithm = "consensus:METHOD"
  c.algo = dict(most_entropy=1.5, weight=1.0)  # log 10 = 2.3: nobody knows
  c.compare = {"mhd": mhd, "everywhere": dict(algo=dict(most_entropy=2.4)), "separate": {}}
  return c
