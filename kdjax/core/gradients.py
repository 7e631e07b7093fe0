"""The only module that takes gradients."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Bool, Float

from kdjax.core.arrays import Array
from kdjax.types import PyTree


def of(loss: Callable[[PyTree], tuple[jax.Array, PyTree]], params: PyTree) -> tuple[PyTree, PyTree]:
  """Gradients of one device's share of a loss.

  Args:
    loss: params -> (share, aux). The share is `sum(v * mask) / total`: the shares of all devices
      of the `data` axis add up to the loss.
    params: a pytree.

  Returns:
    (gradients, aux), this device's addends. The caller sums them over `data` once, for all clients
    together; inside `shard_map` with `check_vma=False` nothing else does.
  """
  grads, aux = jax.grad(loss, has_aux=True)(params)
  return grads, aux


class Pass(NamedTuple):
  """A forward pass whose gradient is taken later."""

  out: Any  # the pass's output
  pull: Any  # gradient with respect to `out` -> gradient with respect to the parameters
  aux: Any


def forward(fn: Callable[[PyTree], tuple[PyTree, PyTree]], params: PyTree) -> Pass:
  """Runs `fn(params) -> (out, aux)` now, so that `recall` can give its gradient later."""
  out, pull, aux = jax.vjp(fn, params, has_aux=True)
  return Pass(out, pull, aux)


def recall(done: Pass, params: PyTree) -> PyTree:
  """A pass's `out` as a differentiable function of its parameters, without running it again."""

  @jax.custom_vjp
  def out(params):
    return done.out

  out.defvjp(lambda params: (done.out, None), lambda _, grad: done.pull(grad))
  return out(params)


def apply_update(
  tx: optax.GradientTransformation,
  lr: float | Float[Array, ""],
  grads: PyTree,
  params: PyTree,
  opt_state: PyTree,
  taken: bool | Bool[Array, ""] = True,
) -> tuple[PyTree, PyTree]:
  """One step of one client: `params - lr * tx(grads)`; a step that is not taken changes nothing.

  Args:
    tx: an optax transformation that holds no learning rate.
    lr: f32[], the step size of this position.
    grads, params: pytrees of the same structure.
    opt_state: `tx`'s state.
    taken: bool[], passed on to the transformations of `kdjax.optim`.

  Returns:
    (params, opt_state).
  """
  lr = jnp.where(taken, lr, 0.0)
  updates, opt_state = optax.with_extra_args_support(tx).update(
    grads, opt_state, params, taken=jnp.asarray(taken)
  )
  return jax.tree.map(lambda p, u: (p - lr * u).astype(p.dtype), params, updates), opt_state
