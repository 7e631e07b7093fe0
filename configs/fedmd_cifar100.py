"""FedMD as published: ten small CNNs, private CIFAR-100 by superclass, public CIFAR-10.

Li and Wang, 2019; the comparison of Zhmoginov et al., CVPR 2023, Table 2: 50.2 % mean test accuracy
over the ten clients, deviation 2.7 (pooled baseline 56.5 %). Not run by us: it needs both sets in
their official binary version.

Table 2's other columns, on the same private images without the labels of the public ones. No test
image is public, and every number is the mean over the ten networks:
  MHD (57.0 %, deviation 0.6)   configs/fedmd_cifar100.py:mhd
  its base (60.6 %)             configs/fedmd_cifar100.py:supervised,network=1    and so on to 10
  everyone isolated             configs/fedmd_cifar100.py:separate
The base trains one network on the private images of all ten clients together. The paper gives no
hyper-parameters for these columns. SGD and the number of steps are those of its other runs, batches
are smaller than a client's 400 images, and embeddings are not distilled, as their widths differ.

Non-iid split: of every superclass, client i holds 20 images of the fine class number i mod 5; the
label is the superclass. Public pre-training uses CIFAR-10's labels, as the published code does. The
code's l2 penalty on the classifiers is left out.

  python -m kdjax.main --config=configs/fedmd_cifar100.py --workdir=runs/fedmd \
      --config.source='cifar:CIFAR100_DIR?label=coarse' --config.public_source=cifar:CIFAR10_DIR
"""

from kdjax.algorithms import fedmd
from kdjax.configs import common, data, mhd_imagenet
from kdjax.models.fedmd import ARCHITECTURES

# The superclass of each of CIFAR-100's fine classes, in the order of the official files.
COARSE = (
  4, 1, 14, 8, 0, 6, 7, 7, 18, 3, 3, 14, 9, 18, 7, 11, 3, 9, 7, 11, 6, 11, 5, 10, 7, 6, 13, 15, 3,
  15, 0, 11, 1, 10, 12, 14, 16, 9, 11, 5, 5, 19, 8, 8, 15, 13, 14, 17, 18, 10, 16, 4, 17, 4, 2, 0,
  17, 4, 18, 17, 10, 3, 2, 12, 12, 16, 12, 1, 9, 19, 2, 10, 0, 1, 16, 12, 9, 13, 15, 13, 16, 19, 2,
  4, 6, 19, 5, 5, 8, 19, 18, 1, 2, 15, 6, 0, 17, 8, 14, 13,
)  # fmt: skip


def counts(clients, per_class):
  """Examples by client and fine class: one fine class of each superclass per client."""
  fine = [[f for f in range(100) if COARSE[f] == c] for c in range(20)]
  return tuple(
    tuple(per_class if f == fine[COARSE[f]][i % 5] else 0 for f in range(100))
    for i in range(clients)
  )


NETWORKS = {
  str(i): ("fedmd", dict(filters=f, dropout=d)) for i, (f, d) in enumerate(ARCHITECTURES, 1)
}


def get_config(words=""):
  """The experiment."""
  c = common.base()
  c.clients = tuple((1, *network) for network in NETWORKS.values())
  c.model = dict(norm="batch", dtype="float32", project=0)
  c.rounds = 13
  c.batch = 10
  c.public_batch = 128

  data.cifar100(c)
  c.source = "cifar:cifar-100-binary?label=coarse"
  c.source_info.classes = 20  # the superclasses
  c.public_source = "cifar:cifar-10-batches-bin"
  c.public_source_info.update(c.source_info, classes=10)
  c.public_share = 1.0
  c.public_labels = True
  c.partition = "table"
  c.counts = counts(10, 20)
  c.normalise = dict(mean=(0.491, 0.482, 0.447), std=(1.0,))

  c.algorithm = "fedmd"
  hyper = fedmd.Hyper(
    public_epochs=20,
    private_epochs=25,
    private_batch=32,
    alignment=5_000,
    digest_epochs=1,
    digest_batch=128,
    revisit_epochs=10,
  )
  c.algo = common.algo(hyper)
  c.optim = common.adam(lr=1e-3)
  c.evals.accuracy = dict(every=1_000, batch=500)
  _baselines(c)
  return common.crossed(c, words, NETWORKS)


def _baselines(c):
  """MHD, all clients isolated, and one network on all private images together."""
  optim = common.sgd(lr=0.1, clip=0.0)
  how = dict(rounds=0, steps=60_000, batch=128, public_labels=False, optim=optim)
  algo = mhd_imagenet.get_config().algo.to_dict() | dict(aux_heads=3, nu_emb=0.0, pool_size=10)
  of_all = tuple(map(sum, zip(*c.counts, strict=True)))
  pooled = common.pooled(c) | dict(partition="table", counts=(of_all,))
  c.baselines.mhd = dict(how, algorithm="mhd", algo=algo)
  c.baselines.separate.update(how)
  c.baselines.supervised = pooled | how
