"""Asynchronous edge learning on CIFAR-10: the published experiment of CIFAR-100 with ten classes.

Lee, Yoo and Kwak, 2020, https://arxiv.org/abs/2010.10338v1; they print no number for CIFAR-10.

  python -m kdjax.main --config=configs/async_edge_cifar10.py --workdir=runs/async_edge_cifar10

Needs the data: `tfds build cifar10 --file_format=array_record`, or --config.source=cifar:DIR with
the official binary version. Not run by us: it is meant for an accelerator.
"""

from kdjax.configs import async_edge_cifar100, common, data


def get_config(words=""):
  """The experiment of async_edge_cifar100.py on other images."""
  c = async_edge_cifar100.get_config()
  data.cifar10(c)
  return common.crossed(c, words)
