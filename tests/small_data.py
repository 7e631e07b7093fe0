"""What the tests of data sources share: loading, refusing, and images of noise."""

import numpy as np
import pytest
from noise import rng
from PIL import Image

from kdjax.data import sources
from kdjax.types import ConfigError


def load(name, image, classes, holdout=0, resident_bytes=2**30, **more):
  info = dict(train=1, test=1, image=image, classes=classes) | more
  return sources.open_source(name, info=info, holdout=holdout, resident_bytes=resident_bytes)


def refused(match):
  return pytest.raises(ConfigError, match=match)


def pixels(*shape):
  return rng.integers(0, 256, shape, dtype=np.uint8)


def save(path, array):
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(array).save(path)
