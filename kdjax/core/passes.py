"""A single client's forward passes: as it is tested, and as it learns."""

import dataclasses

from flax import linen as nn
from jaxtyping import Float

from kdjax.core.arrays import Array
from kdjax.types import ClientState, Examples, ModelOut, PyTree


def offers(model: nn.Module, choice: str) -> bool:
  """Whether a network has such a field, as `conv`, `remat` or `scan`; a user's own may not."""
  return choice in {field.name for field in dataclasses.fields(model)}


def eval_mode(model: nn.Module, client: ClientState, images: Float[Array, "N ..."]) -> ModelOut:
  """A single client's ModelOut in evaluation mode; images f32[N, h, w, c]."""
  return model.apply({"params": client.params, **client.model_state}, images, train=False)  # type: ignore[return-value]


def train_mode(
  model: nn.Module, model_state: PyTree, params: PyTree, half: Examples
) -> tuple[ModelOut, PyTree]:
  """A single client's (ModelOut, new model_state) in training mode on one half of a batch."""
  out, changed = model.apply(
    {"params": params, **model_state},
    half.image,
    train=True,
    mask=half.mask,
    mutable=list(model_state),
    rngs={"dropout": half.key},
  )
  return out, dict(changed)
