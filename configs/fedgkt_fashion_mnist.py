"""FedGKT on Fashion-MNIST, 10,000 training images: four small edges and a larger server, Dir(0.5).

Follows He, Annavaram and Avestimehr, NeurIPS 2020, Table 1, at small scale; about five minutes on
two cores. Needs the data:

  tfds build fashion_mnist --file_format=array_record      (pip install ".[prepare]", once)
  python -m kdjax.main --config=configs/fedgkt_fashion_mnist.py --workdir=runs/fedgkt_fashion_mnist

or the four official files with --config.source=idx:DIR, or --config.source=npz:FILE.

Shared accuracy of one seed, percent: 64; the edges alone 32 (:separate),
FedAvg with the full network 70 (:fedavg), the full network on all data 85 (:supervised).
"""

from kdjax.configs import common, data, fedgkt_digits

NETWORKS = {
  "edge": ("split_cnn:Edge", dict(width=8, widths=(8,))),
  "full": ("split_cnn", dict(width=8, widths=(16, 32, 64))),
}


def get_config(words=""):
  """The digits' experiment on larger images, with another server."""
  c = fedgkt_digits.get_config()
  c.replicas = 1
  c.rounds = 10
  data.fashion_mnist(c)
  c.limit = 10_000
  c.algo.server = ("split_cnn:Server", dict(c.model, widths=(16, 32, 64)))
  c.evals.accuracy.batch = 2_000
  fedgkt_digits.baselines(c, NETWORKS, local_steps=78, supervised_steps=3_000)
  return common.crossed(c, words, NETWORKS)
