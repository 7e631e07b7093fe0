"""What models cost: to run, to fetch, and to learn from."""

import jax

from kdjax.core.passes import eval_mode


def forward_flops(model, template, shape, dtype):
  """FLOPs of one example's forward pass, as XLA counts them before it optimises.

  Args:
    model: a Flax module, (images, train, mask) -> ModelOut.
    template: ClientState of shapes.
    shape, dtype: of one example.
  """
  images = jax.ShapeDtypeStruct((1, *shape), dtype)
  forward = jax.jit(lambda client, x: eval_mode(model, client, x).logits)
  return float(forward.lower(template, images).cost_analysis()["flops"])


def nbytes(tree):
  """Bytes of a pytree of arrays or shapes, from their shapes and dtypes."""
  return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))
