"""Controls of pairwise transfer: the same steps, but no learned weights are received.

A gain under a control is not due to the sources' knowledge. The third control, an offset on the
logits without any transfer, is evals/prior_offset.py.

  pairwise:ZEROED  every source's numbers are zeros, so it predicts all classes with equal
                   probability
  pairwise:RANDOM  every source's numbers are its own, shuffled within each array at every fetch:
                   of the right size, but without meaning
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Int

from kdjax.algorithms.pairwise.hyper import Hyper
from kdjax.algorithms.pairwise.method import make
from kdjax.core.arrays import Array
from kdjax.core.env import Env
from kdjax.types import ClientState, Method


def zeroed(
  env: Env, clients: tuple[ClientState, ...], call: Int[Array, ""]
) -> tuple[ClientState, ...]:
  """The clients, over cohorts, with zeros for weights and statistics."""
  zero = functools.partial(jax.tree.map, jnp.zeros_like)
  return tuple(c._replace(params=zero(c.params), model_state=zero(c.model_state)) for c in clients)


def shuffled(
  env: Env, clients: tuple[ClientState, ...], call: Int[Array, ""]
) -> tuple[ClientState, ...]:
  """The clients, over cohorts, each array's numbers in an order drawn for (client, call)."""

  def shuffle(client, key):
    leaves, tree = jax.tree.flatten((client.params, client.model_state))
    keys = jax.random.split(key, len(leaves))
    mixed = [
      jax.random.permutation(k, x.ravel()).reshape(x.shape)
      for k, x in zip(keys, leaves, strict=True)
    ]
    params, model_state = jax.tree.unflatten(tree, mixed)
    return client._replace(params=params, model_state=model_state)

  keys = [env.keys(g, "shuffled", call) for g in range(len(clients))]
  return tuple(jax.vmap(shuffle)(c, k) for c, k in zip(clients, keys, strict=True))


ZEROED = Method(Hyper, functools.partial(make, disguise=zeroed))
RANDOM = Method(Hyper, functools.partial(make, disguise=shuffled))
