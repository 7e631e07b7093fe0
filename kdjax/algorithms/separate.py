"""Separate training: every client minimises the cross entropy on its own private data.

The lower baseline of every paper here, and the part of every other method that is not exchange.
`supervised` is this method with one client that holds all private data.
"""

from kdjax.core import losses
from kdjax.core.clients import has_data, share, update
from kdjax.types import Algorithm, Feed, Phase


def cross_entropy(apply, params, half):
  """Cross entropy of the main head, `L_CE` of Eq. 1, and the statistics after the pass.

  Args:
    apply: (params, half) -> (ModelOut, model_state), see `core.clients.update`.
    params: of one client.
    half: Examples of one client, leaves [B, ...].

  Returns:
    (f32[] share of the loss, model_state).
  """
  out, model_state = apply(params, half)
  each = losses.cross_entropy(out.logits[:, 0], half.label)
  return share(each, half.mask, half.total), model_state


def objective(apply, params, d):
  """The objective of supervised training for `core.clients.update`; d: Examples with labels."""
  loss, model_state = cross_entropy(apply, params, d)
  return loss, ({"loss": loss, "cross_entropy": loss}, model_state)


def train_phase(env, *, name, feed, steps):
  """A phase in which every client takes supervised steps; one without data in a step rests.

  Args:
    env: Env.
    name: names the phase and keys its data order.
    feed: Feed with private examples.
    steps: calls per visit, or None for whole epochs.
  """

  def step(state, batch, now):
    active = tuple(map(has_data, batch.private)) if feed.kind == "epoch" else None
    clients, aux = update(env, state.clients, objective, batch.private, now.lr, active)
    return state._replace(clients=clients), aux

  return Phase(name, step, feed, steps, lr=env.rate)


def stateless(env):
  """An `Algorithm.init` for methods whose only state is the clients'."""
  return lambda clients: (clients, ((),) * len(env.cohorts), ())


def make(env):
  """Separate training; see the file's docstring."""
  train = train_phase(env, name="train", feed=Feed(private=env.batch), steps=env.steps)
  return Algorithm(stateless(env), (train,), env.predict)
