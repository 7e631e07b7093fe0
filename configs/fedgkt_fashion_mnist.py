"""FedGKT on Fashion-MNIST, 10,000 training images: four small edges and a larger server, Dir(0.5).

Follows He, Annavaram and Avestimehr, NeurIPS 2020, Table 1, at small scale; about five minutes on
two cores. Needs the data:

  tfds build fashion_mnist --file_format=array_record      (pip install ".[prepare]", once)
  python -m kdjax.main --config=configs/fedgkt_fashion_mnist.py --workdir=runs/fedgkt_fashion_mnist

or the four official files with --config.source=idx:DIR, or --config.source=npz:FILE.

Shared accuracy of one seed, percent: 64; the edges alone 32 (separate_fedgkt_fashion_mnist.py),
FedAvg with the full network 70 (fedavg_...), the full network on all data 85 (supervised_...).
"""

from configs import fedgkt_digits

NETWORKS = {
  "edge": ("split_cnn:Edge", dict(width=8, widths=(8,))),
  "full": ("split_cnn", dict(width=8, widths=(16, 32, 64))),
}


def get_config():
  """The digits' experiment on larger images, with another server."""
  c = fedgkt_digits.get_config()
  c.replicas = 1
  c.rounds = 10
  c.source = "tfds:fashion_mnist"
  c.source_info = dict(train=60_000, test=10_000, image=(28, 28, 1), classes=10, resize=False)
  c.limit = 10_000
  c.algo.server = ("split_cnn:Server", dict(c.model, widths=(16, 32, 64)))
  c.compare_algo.fedavg.local_steps = 78  # about a pass
  c.evals.accuracy.batch = 2_000
  return c
