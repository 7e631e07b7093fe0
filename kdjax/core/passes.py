"""A single client's forward passes: as it is tested, and as it learns."""


def eval_mode(model, client, images):
  """A single client's ModelOut in evaluation mode; images f32[N, h, w, c]."""
  return model.apply({"params": client.params, **client.model_state}, images, train=False)


def train_mode(model, model_state, params, half):
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
