"""MHD on CIFAR-10, 10,000 training images: five small convolutional clients, s = 100.

Two primary labels each, as in Zhmoginov et al., CVPR 2023, Table 1 and Fig. 4, at a size that two
cores train in seven minutes, without the baselines. The paper has no number for it. Shared accuracy
ends at 36 % in the last head and at 21 % in separate training. It is the quickstart's recipe with a
convolutional network, two teachers per step and two auxiliary heads; a third head adds nothing
(docs/methods/mhd.md). Needs the data: --config.source=cifar:DIR with the official binary version,
or --config.source=npz:FILE.

  python -m kdjax.main --config=configs/mhd_cifar10_small.py --workdir=runs/cifar10_small
"""

from kdjax.configs import common, data, mhd_digits


def get_config(words=""):
  """The quickstart's clients and recipe on photographs."""
  c = mhd_digits.get_config()
  c.replicas = 1
  c.clients = ((5, "cnn", dict(widths=(16, 32, 64), stride=2)),)
  c.steps = 8_000
  c.algo.aux_heads = 2
  c.algo.teachers = 2  # a single one of four is often wrong, and as confident as the others
  data.cifar10(c)
  c.limit = 10_000
  c.augment = dict(kind="crop_flip", padding=4, flip=True)
  c.evals.accuracy = dict(every=500, batch=1_000)
  return common.crossed(c, words)
