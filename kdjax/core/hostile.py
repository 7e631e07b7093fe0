"""Hostile clients: everything they send is made from a falsified copy of the model they train.

Every model ends in linear heads, so each of these lies about labels is a change of the heads'
weights, and it is the same lie whether weights or predictions travel. With logits z of C classes:

  permuted   z'_c = z_{c-1}: every class gets the name of the next one
  least      z' = -z: the least likely class comes first
  constant   z' = scale e_0: class 0, whatever the example is
  confident  z' = scale z_{c-1}: permuted, and more confident than any honest client
  flipped    all weights are negated; this is not a lie about labels but a common attack on averages

Hostile clients receive messages, train and are tested like all others.
"""

import jax
import jax.numpy as jnp

from kdjax.core.env import Env
from kdjax.types import ClientState, PyTree

HEADS = {  # (array [..., C] of a head, whether it is the bias, scale) -> the array that is sent
  "permuted": lambda x, bias, scale: jnp.roll(x, 1, -1),
  "least": lambda x, bias, scale: -x,
  "constant": lambda x, bias, scale: scale * jnp.eye(1, *x.shape)[0] if bias else jnp.zeros_like(x),
  "confident": lambda x, bias, scale: scale * jnp.roll(x, 1, -1),
}
KINDS = ("none", "flipped", *HEADS)


def lie(
  kind: str, scale: float, heads: tuple[str, ...], params: dict[str, PyTree]
) -> dict[str, PyTree]:
  """The parameters that one hostile client sends in place of its own.

  Args:
    kind: an entry of `KINDS` other than 'none'.
    scale: the size of the falsified logits, for 'constant' and 'confident'.
    heads: names of the model's heads.
    params: with `heads/NAME/kernel` [F, C] and `heads/NAME/bias` [C].
  """
  if kind == "flipped":
    return jax.tree.map(jnp.negative, params)

  def tell(head):
    return {name: HEADS[kind](x, name == "bias", scale).astype(x.dtype) for name, x in head.items()}

  lies = {name: tell(head) for name, head in params["heads"].items() if name in heads}
  return params | {"heads": params["heads"] | lies}


def as_sent(env: Env, clients: tuple[ClientState, ...]) -> tuple[ClientState, ...]:
  """The clients as others see them: every message is made from these models.

  Args:
    env: Env; `env.hostile` names the hostile clients and their lie.
    clients: over cohorts.
  """
  kind, who, scale = env.hostile
  if kind == "none":
    return clients

  def seen(g, client):
    lies = jax.vmap(lambda params: lie(kind, scale, env.heads, params))(client.params)
    hostile = jnp.isin(env.ids(g) % env.K, jnp.asarray(who))
    pick = lambda a, b: jnp.where(jnp.expand_dims(hostile, range(1, b.ndim)), a, b)
    return client._replace(params=jax.tree.map(pick, lies, client.params))

  return tuple(seen(g, client) for g, client in enumerate(clients))
