"""Asynchronous edge learning on CIFAR-10: the published experiment of CIFAR-100 with ten classes.

Lee, Yoo and Kwak, 2020, https://arxiv.org/abs/2010.10338v1; they print no number for CIFAR-10.

  python -m kdjax.main --config=configs/async_edge_cifar10.py --workdir=runs/async_edge_cifar10

Needs the data: `tfds build cifar10 --file_format=array_record`, or --config.source=cifar:DIR with
the official binary version. Not run by us: it is meant for an accelerator.
"""

from configs import async_edge_cifar100


def get_config():
  """The experiment of async_edge_cifar100.py on other images."""
  c = async_edge_cifar100.get_config()
  c.source = "tfds:cifar10"
  c.source_info.classes = 10
  c.normalise = dict(mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616))
  return c
