"""A config: `mhd_cifar10` on noise in CIFAR-10's shape, for machines that do not have the set."""

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
  """50,000 and 10,000 images."""
  rng = np.random.default_rng(0)

  def draw(n):
    return rng.integers(256, size=(n, 32, 32, 3), dtype=np.uint8), rng.integers(10, size=n)

  return kdjax.arrays(train=draw(50_000), test=draw(10_000), name="noise")
