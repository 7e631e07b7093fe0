"""MHD on printed capitals: thirteen clients, two primary labels each of 26 classes, s = 100.

UCI Letter Recognition (Slate, 1991): 16 features, 20,000 rows, many classes at the cost of an MLP.
The paper (Zhmoginov et al., CVPR 2023, Table 1 and Fig. 4) has no number for it. It is the
quickstart's recipe. Needs the data, as u8[N, 4, 4, 1] in a file: see docs/data.md.

  python -m kdjax.main --config=configs/mhd_letter.py --workdir=runs/letter \\
      --config.source=npz:letter.npz
"""

from kdjax.configs import common, data, mhd_digits


def get_config(words=""):
  """The quickstart's network and recipe for more clients and classes."""
  c = mhd_digits.get_config()
  ((_, model, arguments),) = c.clients
  c.clients = ((13, model, arguments),)
  c.steps = 4_000
  data.letter(c)
  c.algo.pool_size = 13  # the number of clients, as in the paper
  c.algo.teachers = 3  # a single one of twelve rarely knows an example's class
  c.evals.accuracy = dict(every=500, batch=2_000)
  return common.crossed(c, words)
