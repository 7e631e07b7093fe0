"""The cost of models: FLOPs to run and train them, bytes to send them."""

import jax
import numpy as np
from flax import linen as nn
from jaxtyping import Shaped

from kdjax.core.env import Env
from kdjax.core.passes import eval_mode, offers
from kdjax.types import ClientState, PyTree


def forward_flops(
  model: nn.Module, template: ClientState, shape: tuple[int, ...], dtype: str | np.dtype
) -> float:
  """FLOPs of one example's forward pass, as XLA counts them before optimisation.

  The number is the same for every form of the step: see `counted`.

  Args:
    model: a Flax module, (images, train, mask) -> ModelOut.
    template: ClientState of shapes.
    shape, dtype: of one example.
  """
  images = jax.ShapeDtypeStruct((1, *shape), dtype)
  forward = jax.jit(lambda client, x: eval_mode(counted(model), client, x).logits)
  return float(forward.lower(template, images).cost_analysis()["flops"])  # type: ignore[index]


def counted(model: nn.Module) -> nn.Module:
  """The model in the form whose FLOPs are counted, whatever form it is trained in.

  XLA leaves a convolution's padding out of the count, and does not leave it out of the matrix
  products that `conv='matmul'` makes of the convolution.
  """
  model = unlooped(model)
  return model.clone(conv="direct") if offers(model, "conv") else model


def unlooped(model: nn.Module) -> nn.Module:
  """The model without a loop over its blocks, as XLA counts only one turn of a loop."""
  return model.clone(scan=False) if offers(model, "scan") else model


def client_flops(env: Env, examples: Shaped[np.ndarray, " clients"]) -> dict[str, float]:
  """The clients' part of a method's `flops` in `Algorithm.facts`: means over the clients.

  Args:
    env: Env.
    examples: [R*K], examples that pass forward through each client's model in a run. An example of
      a training step counts as three: its forward pass and a gradient of twice that cost.

  Returns:
    {'forward_edge': FLOPs of one example's forward pass, 'edge': FLOPs of one client's run}.
  """
  forward = np.zeros(env.clients)
  for c in env.cohorts:
    forward[list(c.ids)] = forward_flops(c.model, c.template, env.task.image, env.dtype)
  return {"forward_edge": float(forward.mean()), "edge": float((forward * examples).mean())}


def nbytes(tree: PyTree) -> int:
  """Bytes of a pytree of arrays or of shapes."""
  return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))
