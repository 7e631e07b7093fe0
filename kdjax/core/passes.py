"""A single client's forward passes, in evaluation and in training mode."""

import dataclasses

from flax import linen as nn
from jaxtyping import Float

from kdjax.core.arrays import Array
from kdjax.types import ClientState, Examples, ModelOut, PyTree

READ = "read"  # the collection in which a model's heads leave what they read


def offers(model: nn.Module, choice: str) -> bool:
  """Whether a network has the field `choice`: `conv`, `remat` or `scan`; a user's may lack it."""
  return choice in {field.name for field in dataclasses.fields(model)}


def eval_mode(model: nn.Module, client: ClientState, images: Float[Array, "N ..."]) -> ModelOut:
  """A single client's ModelOut in evaluation mode; images f32[N, h, w, c]."""
  return model.apply({"params": client.params, **client.model_state}, images, train=False)  # type: ignore[return-value]


def heads_input(
  model: nn.Module, client: ClientState, images: Float[Array, "N ..."]
) -> tuple[Float[Array, "N F"], ModelOut]:
  """A single client's (what its heads read, ModelOut) in evaluation mode.

  It is the embedding, unless `model.project` maps the embedding to another width: the heads read
  the original, and where no method distils embeddings nobody trains the map. A network that does
  not end in `Heads` under the name `heads` has its embedding taken.
  """
  variables = {"params": client.params, **client.model_state}
  out, kept = model.apply(variables, images, train=False, mutable=[READ])
  return kept.get(READ, {}).get("heads", {}).get("input", (out.embedding,))[0], out


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
