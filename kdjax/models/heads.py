"""The main head and the auxiliary heads at the end of every model (MHD, section 3.2)."""

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Float

from kdjax.core.arrays import Array
from kdjax.core.passes import READ
from kdjax.models.layers import wide_dtype


def head_names(heads: int) -> tuple[str, ...]:
  """('main', 'aux1', ...): H names, in the order of the logits' head axis."""
  return ("main", *(f"aux{k}" for k in range(1, heads)))


class Heads(nn.Module):
  """Linear heads on one embedding, in the wide dtype because confidences are compared by size.

  Each head is a layer with a name of its own, so a network's backbone and main head have the same
  initial values for any number of heads. With `project` > 0, other clients see the embedding at
  that width: where its own differs, a linear map without bias. The heads read the original.
  """

  classes: int
  heads: int
  dtype: str
  project: int
  use_bias: bool = True
  hidden: int = 0  # > 0: units of a further layer, with ReLU, before heads and embedding

  @nn.compact
  def __call__(self, xi: Float[Array, "B F"]) -> tuple[Float[Array, "B F1"], Float[Array, "B H C"]]:
    """xi [B, F] -> (embedding f32[B, F, hidden or project], logits f32[B, H, C])."""
    wide = wide_dtype(self.dtype)
    xi = xi.astype(wide)

    def dense(width, use_bias, name):
      return nn.Dense(width, use_bias=use_bias, dtype=wide, param_dtype=wide, name=name)(xi)

    if self.hidden:
      xi = nn.relu(dense(self.hidden, True, "hidden"))
    if not self.is_initializing():  # else it would be part of the model's state
      self.sow(READ, "input", xi)  # for `core.passes.heads_input`

    logits = [dense(self.classes, self.use_bias, name) for name in head_names(self.heads)]
    projected = self.project and self.project != xi.shape[-1]
    embedding = dense(self.project, False, "project") if projected else xi
    return embedding, jnp.stack(logits, axis=1)
