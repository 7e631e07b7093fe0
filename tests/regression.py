"""Softmax regression, as a model and in NumPy: methods are checked against plain gradients."""

import ensembles
import jax
import numpy as np
from flax import linen as nn

from kdjax.configs import common
from kdjax.models.heads import Heads
from kdjax.types import ModelOut

NAME = ("regression:Model", {})
LR = 0.125  # a float32 as well


class Model(nn.Module):
  """One linear layer; none of the other arguments matters."""

  classes: int
  heads: int
  norm: str
  dtype: str
  project: int

  @nn.compact
  def __call__(self, images, train, mask=None):
    head = Heads(self.classes, self.heads, self.dtype, 0, name="heads")
    return ModelOut(*head(images.reshape(len(images), -1)), {})


def config(method, K, rounds, **changes):
  """Rounds of plain gradient descent."""
  c = ensembles.config(method, ((K, *NAME),), steps=0, **changes)
  c.rounds = rounds
  c.optim = common.sgd(lr=LR, clip=0.0, schedule="constant", weight_decay=0.0) | {"momentum": 0.0}
  return c


def weights(params):
  """Kernel and bias of a client's parameters, f64[inputs + 1, C]."""
  head = params["heads"]["main"]
  return np.concatenate([head["kernel"], head["bias"][None]]).astype(float)


def examples(e, places):
  """(x f64[N, inputs + 1], one-hot labels f64[N, C]) of an experiment's training images."""
  train = e.data.source.train
  x = np.asarray(jax.vmap(e.view)(train.array[places]), float).reshape(len(places), -1)
  ones = np.ones((len(places), 1))
  return np.concatenate([x, ones], 1), np.eye(ensembles.CLASSES)[train.labels[places]]


def softmax(z):
  e = np.exp(z - z.max(-1, keepdims=True))
  return e / e.sum(-1, keepdims=True)


def gradient(w, x, target):
  """Of the mean cross entropy between a target distribution and softmax(x w)."""
  return x.T @ (softmax(x @ w) - target) / len(x)
