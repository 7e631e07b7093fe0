"""What models cost: to run, to fetch, and to learn from."""

import jax
import numpy as np
from flax import linen as nn

from kdjax.core.passes import eval_mode
from kdjax.types import ClientState, PyTree


def forward_flops(
  model: nn.Module, template: ClientState, shape: tuple[int, ...], dtype: str | np.dtype
) -> float:
  """FLOPs of one example's forward pass, as XLA counts them before it optimises.

  Args:
    model: a Flax module, (images, train, mask) -> ModelOut.
    template: ClientState of shapes.
    shape, dtype: of one example.
  """
  images = jax.ShapeDtypeStruct((1, *shape), dtype)
  forward = jax.jit(lambda client, x: eval_mode(model, client, x).logits)
  return float(forward.lower(template, images).cost_analysis()["flops"])  # type: ignore[index]


def nbytes(tree: PyTree) -> int:
  """Bytes of a pytree of arrays or shapes, from their shapes and dtypes."""
  return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))
