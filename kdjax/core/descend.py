"""The only place where a gradient is taken."""

import jax


def gradients(loss, params):
  """Gradients of one device's share of a loss.

  Args:
    loss: params -> (share, aux). The share is `sum(v * mask) / psum(sum(mask))`: the shares of
      all devices of the `data` axis add up to the loss.
    params: a pytree.

  Returns:
    (gradients, aux), this device's addends: the caller sums them over `data` once, for all clients
    together (inside `shard_map` with `check_vma=False` nothing else does).
  """
  grads, aux = jax.grad(loss, has_aux=True)(params)
  return grads, aux


def apply_update(tx, lr, grads, params, opt_state):
  """One step of one client: `params - lr * tx(grads)`.

  Args:
    tx: an optax transformation that holds no learning rate.
    lr: f32[], the step size of this position.
    grads, params: pytrees of the same structure.
    opt_state: `tx`'s state.

  Returns:
    (params, opt_state).
  """
  updates, opt_state = tx.update(grads, opt_state, params)
  return jax.tree.map(lambda p, u: (p - lr * u).astype(p.dtype), params, updates), opt_state
