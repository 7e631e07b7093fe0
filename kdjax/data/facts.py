"""What a config leaves to its data: shapes, classes, and the statistics that normalise them."""

import functools
import math
from typing import Any

import numpy as np

from kdjax.core import agreement
from kdjax.data.dataset import Data
from kdjax.data.example_set import ExampleSet, is_table
from kdjax.types import ConfigError

DATA = ["data"]  # for `normalise`: the mean, or the standard deviation, of the training data
FAR = 10.0  # networks hardly learn from a feature whose mean or spread is larger
CHUNK = 1 << 22  # numbers of a set that are measured at a time
CONSTANT = 1e-12  # a spread below so much of the mean is what rounding leaves of a constant
SHIFT = 1e-3  # of a standard deviation, that a rounded mean may be off
SAMPLED = 4096  # rows of a table that are looked at


def resolved(config: dict[str, Any], data: Data) -> dict[str, Any]:
  """The config with what its data are found to be, so that `config.json` stands for itself.

  Args:
    config: nested dict.
    data: Data.

  Raises:
    ConfigError: for a `normalise` that does not fit the data.
  """
  found = {
    key: config[key] | fact if isinstance(fact, dict) else fact for key, fact in data.facts.items()
  }
  given = config["normalise"]
  measured = [key for key, value in given.items() if value == DATA]
  fitted = _fitted(measured[0], data.source.train) if measured else {}
  numbers = {k: fitted[k] if k in measured else list(value) for k, value in given.items()}
  normalise = {k: _checked(k, value, data.source.train) for k, value in numbers.items()}
  _look_at_scale(data.source.train, **normalise)
  return config | found | {"normalise": normalise}


def _checked(key, value, train: ExampleSet):
  """One number, or one for each channel or feature."""
  width = train.shape[-1]
  if len(value) not in (1, width) or (key == "std" and min(value) <= 0):
    what = "features" if is_table(train.shape) else "channels"
    hint = f"one number, or one for each of {width} {what}; std above 0; or ('data',)"
    raise ConfigError(f"normalise.{key}", value, hint)
  return value


def _fitted(key, train):
  """{'mean', 'std'} of the training data, by channel or feature; a std of 0 becomes 1.

  Six digits: whoever computes it, on whatever machine, resumes the same run. `key` is to blame.
  """
  if train.array is None and train.read is None:
    return {"mean": [0.0], "std": [1.0]}  # a plan without data
  if train.array is None:
    hint = "only a set in memory is measured: raise source_resident_bytes, or write the numbers"
    raise ConfigError(f"normalise.{key}", DATA, hint)
  means, stds = _moments(train.array)
  if not is_table(train.shape):
    means, stds = means / 255, stds / 255
  stds = np.where(stds <= CONSTANT * abs(means), 1, stds)
  return {
    "mean": [_rounded(mean, std) for mean, std in zip(means, stds, strict=True)],
    "std": [float(f"{std:.6g}") for std in stds],
  }


def _moments(array):
  """(means, standard deviations) f64 over all axes but the last, without a copy of the array."""
  flat = array.reshape(-1, array.shape[-1])
  rows = max(1, CHUNK // flat.shape[1])
  chunks = [flat[start : start + rows] for start in range(0, len(flat), rows)]
  if array.dtype == np.uint8:
    by_value = lambda chunk: [np.bincount(column, minlength=256) for column in chunk.T]
    counts = sum(np.array(by_value(chunk)) for chunk in chunks)
    values = np.arange(256)
    means = counts @ values / len(flat)
    return means, np.sqrt((counts * (values - means[:, None]) ** 2).sum(1) / len(flat))
  means = sum(chunk.sum(0, dtype=np.float64) for chunk in chunks) / len(flat)
  squares = sum(((chunk - means) ** 2).sum(0) for chunk in chunks)
  return means, np.sqrt(squares / len(flat))


def _rounded(mean, std):
  """A mean to six digits, or to six of the standard deviation where the others would shift it."""
  short = float(f"{mean:.6g}")
  if abs(short - mean) <= SHIFT * std:
    return short
  return round(float(mean), 5 - math.floor(math.log10(std)))


def _look_at_scale(train: ExampleSet, *, mean, std):
  """Says which feature of a table is farthest from mean 0 and spread 1, where one is far."""
  if not is_table(train.shape) or train.array is None:
    return
  some = train.array[:: -(-len(train.array) // SAMPLED)].astype(np.float64)
  some = some[np.isfinite(some).all(1)]  # what is not, is noticed in training: core/health.py
  if not len(some):
    return
  rows = (some - mean) / std
  means, spreads = rows.mean(0), rows.std(0)
  size = np.maximum(abs(means), spreads)
  if size.max() > FAR:
    i = int(size.argmax())
    _say_once(
      f"feature {i} of the training rows, once normalised, has mean {means[i]:.4g} and standard "
      f"deviation {spreads[i]:.4g}, far from 0 and 1: set normalise.mean=('data',) and "
      "normalise.std=('data',), or heads may collapse"
    )


@functools.cache  # a run builds an experiment for every method that it compares
def _say_once(line):
  agreement.say(line)
