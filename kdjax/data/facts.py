"""What a config leaves to its data: shapes, classes, and the statistics that normalise them."""

import functools
from typing import Any

import numpy as np

from kdjax.core import agreement
from kdjax.data.dataset import Data
from kdjax.data.example_set import ExampleSet, is_table
from kdjax.types import ConfigError

DATA = ["data"]  # for `normalise`: the mean, or the standard deviation, of the training data
FAR = 10.0  # networks hardly learn from a feature whose mean or spread is larger
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
  normalise = {k: _numbers(k, v, data.source.train) for k, v in config["normalise"].items()}
  _look_at_scale(data.source.train, **normalise)
  return config | found | {"normalise": normalise}


def _numbers(key, value, train: ExampleSet):
  """One number, or one for each channel or feature."""
  width = train.shape[-1]
  value = _fitted(key, train) if value == DATA else list(value)
  if len(value) not in (1, width) or (key == "std" and min(value) <= 0):
    what = "features" if is_table(train.shape) else "channels"
    hint = f"one number, or one for each of {width} {what}; std above 0; or ('data',)"
    raise ConfigError(f"normalise.{key}", value, hint)
  return value


def _fitted(key, train):
  """A statistic of the training data, by channel or feature; a std of 0 becomes 1.

  Six digits: whoever computes it, on whatever machine, resumes the same run.
  """
  if train.array is None and train.read is None:
    return [0.0 if key == "mean" else 1.0]  # a plan without data
  if train.array is None:
    hint = "only a set in memory is measured: raise source_resident_bytes, or write the numbers"
    raise ConfigError(f"normalise.{key}", DATA, hint)
  axes = tuple(range(train.array.ndim - 1))
  value = getattr(np, key)(train.array, axis=axes, dtype=np.float64)
  value = value if is_table(train.shape) else value / 255
  value = np.where(value == 0, 1, value) if key == "std" else value
  return [float(f"{x:.6g}") for x in value]


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
