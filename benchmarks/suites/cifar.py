"""Suite `cifar`: FedAvg on pfl's CIFAR-10 setting."""

from benchmarks.suites import fedavg

TITLE = "FedAvg, pfl's CIFAR-10 setting: 50 clients a round, 50 images each, batch 10"
NOTE = """\
A round of pfl's CIFAR-10 benchmark: 50 clients of 50 images take one epoch at batch 10, learning
rate 0.1, then their weights are averaged. Synthetic images of 32 x 32 x 3, in memory on every side;
two convolutions (32, 64), max-pooling, 128 units, dropout, 10 classes; nothing is evaluated. A step
of the table is a round. Flower runs on its simulation engine."""
COLUMNS = fedavg.COLUMNS
RIVALS = (("pfl", "pfl", "pfl_cifar.py", {}), ("flower", "Flower", "flower_cifar.py", {}))


def contests(options):
  """One contest for every number of clients a round."""
  for K in options.K((50,)):
    name = f"K = {K}"
    if options.wants(name):
      yield fedavg.contest(options, name, "cifar", K, 1 if options.quick else 2, RIVALS)
