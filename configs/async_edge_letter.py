"""Asynchronous edge learning on printed capitals: a core and nine edges with 200 rows each.

Follows Lee, Yoo and Kwak, 2020, Fig. 5, on UCI Letter Recognition, whose 26 classes leave a core
with 200 rows much to learn. On 3,000 held-out training rows, seeds 100 to 104, it has 69.5 % after
the third round and 73.3 % after the ninth (rates 0.02 and 0.15: 71.5 and 74.0 at the end). Three
seeds take half a minute. Needs the data, as u8[N, 4, 4, 1] in a file: see docs/data.md.

  python -m kdjax.main --config=configs/async_edge_letter.py --workdir=runs/async_edge_letter \\
      --config.source=npz:letter.npz

Variants and other settings: async_edge_digits.py.
"""

from kdjax.configs import async_edge_digits, common, data


def get_config(words=""):
  """The digits' core and edges on rows of 16 features."""
  c = async_edge_digits.get_config()
  c.clients = ((10, "mlp", dict(hidden=(64, 64), activation="relu")),)
  c.batch = 20
  data.letter(c)
  c.limit = 2_000
  c.evals.accuracy = dict(every=0, batch=2_000)
  c.evals.overlap = dict(every=0, batch=2_000)
  return common.crossed(c, words)
