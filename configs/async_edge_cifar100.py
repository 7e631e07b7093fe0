"""Asynchronous edge learning as published: ResNet-32 on CIFAR-100, a core and nine edges, CEM.

Lee, Yoo and Kwak, 2020, https://arxiv.org/abs/2010.10338v1, Fig. 5: 56.67 % test accuracy of the
core after the ninth round. Ten random subsets of 5,000 images. Every phase has He et al.'s
schedule, read as 164 epochs with a tenth of the learning rate after epochs 82 and 123. The
temperature, the number of models at an edge and the rounds of memory are ours, as the paper does
not print them.

  python -m kdjax.main --config=configs/async_edge_cifar100.py --workdir=runs/async_edge_cifar100

Needs the data: `tfds build cifar100 --file_format=array_record`, or --config.source=cifar:DIR with
the official binary version. Not run by us: it is meant for an accelerator.

The variants of Fig. 5, settings of `algo`, with the published accuracy:

            init          ensemble   memory
  IsPP      scratch       1          1          39.99
  IPP       independent   1          1          44.97
  IEP       independent   3          1          47.04
  IPM       independent   1          3          49.05
  CPP       clone         1          1          53.37
  CEP       clone         3          1          54.26
  CPM       clone         1          3          55.11
  CEM       clone         3          3          56.67

Fig. 7 has a core and two edges of unpublished sizes (a third of the images each would fit):
64.25 %; 63.37 % where the second edge's model comes late; 62.65 % without it (--config.rounds=1):

  ... --config.clients="((3, 'cifar_resnet', {'depth': 32}),)" --config.rounds=2 \\
      --config.algo.arrivals='((1, 0), (2, 1))'

Fig. 8 has corrupted labels at the fourth and the seventh edge: --config.algo.noisy='(4, 7)'. With
--config.algo.corruption=fixed these labels can be memorised.
"""

from kdjax.algorithms import async_edge
from kdjax.configs import common, data


def get_config(words=""):
  """The experiment."""
  c = common.base()
  c.clients = ((10, "cifar_resnet", dict(depth=32)),)  # the core, then its edges
  c.model = dict(norm="batch", dtype="float32", project=0)
  c.rounds = 9
  c.batch = 128

  data.cifar100(c)
  c.public_share = 0.0
  c.partition = "equal"
  c.augment = dict(kind="crop_flip", padding=4, flip=True)

  c.graph.kind = "star"  # around the core
  c.algorithm = "async_edge"
  hyper = async_edge.Hyper(core_epochs=164, edge_epochs=164, distil_epochs=164)
  c.algo = common.algo(hyper)
  milestones = dict(milestones=(0.5, 0.75), factor=0.1)
  c.optim = common.sgd(lr=0.1, clip=0.0, schedule="multistep") | milestones

  c.log_every = 400
  c.save_every = 6_560
  c.evals.accuracy = dict(every=0, batch=500)
  c.evals.overlap = dict(every=0, batch=500)
  return common.crossed(c, words)
