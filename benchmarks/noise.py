"""A config: `mhd_cifar10` on noise in CIFAR-10's shape, for machines without that data set."""

import numpy as np

import kdjax
from kdjax.configs import mhd_cifar10
from kdjax.data.sources import Source


def get_config(words=""):
  """The experiment."""
  c = mhd_cifar10.get_config(words)
  c.source = "benchmarks.noise:load"
  return c


def load() -> Source:
  """Makes 50,000 training and 10,000 test images of noise."""
  rng = np.random.default_rng(0)

  def draw(n):
    return rng.integers(256, size=(n, 32, 32, 3), dtype=np.uint8), rng.integers(10, size=n)

  return kdjax.arrays(train=draw(50_000), test=draw(10_000), name="noise")
