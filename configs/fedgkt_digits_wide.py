"""FedGKT on digits with extractors that keep all information: eight features per pixel.

The paper's extractors have sixteen (He et al., NeurIPS 2020). Here the larger network is ahead,
unlike with the extractors of fedgkt_digits.py: trained on all data it ends at 98.9 %, the edge
network at 97.2 %. The edges' learning does not matter: on IID data frozen edges
(--config.optim.lr=0) end at 98.5 %, trained ones at 97.8 % (five seeds, commit 7a279fd's
fedgkt_digits). Numbers: docs/results.md.

  python -m kdjax.main --config=configs/fedgkt_digits_wide.py --workdir=runs/fedgkt_digits_wide
"""

from kdjax.configs import common, fedgkt_digits

FRONT = ((8, 1),)  # (channels, stride) of the extractor's layers


def get_config(words=""):
  """The experiment of fedgkt_digits.py, without its bottleneck."""
  chosen = fedgkt_digits.networks(FRONT)
  return common.crossed(fedgkt_digits.experiment(chosen), words, chosen)
