"""FedAvg on the split of fedgkt_cifar10.py, with the full ResNet-56 on every edge.

He, Annavaram and Avestimehr, NeurIPS 2020, Tables 1 and 10: 86.60 % (92.88 % on an IID split).

  python -m kdjax.main --config=configs/fedavg_fedgkt_cifar10.py \\
      --workdir=runs/fedavg_fedgkt_cifar10

The paper's clients make 20 passes over their own 1,314 to 4,497 examples between two averages. Here
everyone makes as many steps, 20 passes over the mean size: a small client sees its data more often,
a large one less. Not run by us: it is meant for an accelerator.
"""

from configs import common, fedgkt_cifar10

EPOCHS, EXAMPLES = 20, 50_000


def get_config():
  """The experiment of fedgkt_cifar10.py with another method and the large network."""
  c = common.with_network(fedgkt_cifar10.get_config(), fedgkt_cifar10.NETWORKS["full"])
  c.batch = 64
  local_steps = round(EPOCHS * EXAMPLES / 16 / c.batch)
  c.compare_algo.fedavg = dict(local_steps=local_steps, momentum="reset")
  c.optim = common.adam(lr=1e-3, eps=1e-8, weight_decay=1e-4, amsgrad=True)
  return common.with_method(c, "fedavg")
