"""Separate training: every client minimises the cross entropy on its own private data.

It is the lower baseline of all the papers, and the local training of every other method.
`supervised` is this method with one client that holds all private data.
"""

import dataclasses
from typing import Any

import jax

from kdjax.core import losses
from kdjax.core.clients import has_data, share, update
from kdjax.core.env import Env
from kdjax.types import Algorithm, Apply, Examples, Feed, Init, Method, Phase, PyTree, Step


def cross_entropy(apply: Apply, params: PyTree, half: Examples) -> tuple[jax.Array, PyTree]:
  """Cross entropy of the main head, `L_CE` of Eq. 1, and the statistics after the pass.

  Args:
    apply: (params, half) -> (ModelOut, model_state), see `core.clients.update`.
    params: of one client.
    half: Examples of one client, leaves [B, ...].

  Returns:
    (share of the loss f32[], model_state).
  """
  out, model_state = apply(params, half)
  each = losses.cross_entropy(out.logits[:, 0], half.label)
  return share(each, half.mask, half.total), model_state


def objective(apply: Apply, params: PyTree, d: Examples) -> tuple[jax.Array, tuple[dict, PyTree]]:
  """The objective of supervised training for `core.clients.update`; d is Examples with labels."""
  loss, model_state = cross_entropy(apply, params, d)
  return loss, ({"loss": loss, "cross_entropy": loss}, model_state)


def supervised_step(env: Env, half: str = "private", *, rests: bool = True) -> Step:
  """`Phase.step` in which every client takes a supervised step.

  Args:
    env: Env.
    half: the half of the batch that is used, 'private' or 'public'.
    rests: whether a client without data in a step rests; in a stream every client has data.
  """

  def step(state, batch, now):
    halves = getattr(batch, half)
    active = tuple(own and has_data(own) for own in halves) if rests else None
    clients, aux = update(env, state.clients, objective, halves, now.lr, active)
    return state._replace(clients=clients), aux

  return step


def train_phase(env: Env, *, name: str, feed: Feed, steps: int | None) -> Phase:
  """A phase in which every client takes supervised steps; a client without data in a step rests.

  Args:
    env: Env.
    name: the phase's name, which also keys its data order.
    feed: Feed with private examples.
    steps: calls per visit, or None for whole epochs.
  """
  step = supervised_step(env, rests=feed.kind == "epoch")
  return Phase(name, step, feed, steps)


def epoch_phase(name: str, step: Step, **feed: Any) -> Phase:
  """A phase of whole passes over the clients' data; `feed` holds fields of `Feed`."""
  return Phase(name, step, Feed(kind="epoch", **feed), None)


def stateless(env: Env) -> Init:
  """An `Algorithm.init` for methods without any state beside the clients'."""
  return lambda clients: (clients, ((),) * len(env.cohorts), ())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hyper:
  """Separate training has no hyper-parameters."""


def make(env: Env, hyper: Hyper) -> Algorithm:
  """Separate training; see the file's docstring."""
  feed = Feed(private=env.training.batch)
  train = train_phase(env, name="train", feed=feed, steps=env.training.steps)
  return Algorithm(stateless(env), (train,), env.predict)


METHOD = Method(Hyper, make)
