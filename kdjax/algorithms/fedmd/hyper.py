"""The hyper-parameters of FedMD, and which sizes can be."""

import dataclasses

from kdjax.core.env import Env
from kdjax.core.ranges import MOST_EPOCHS, at_least, between
from kdjax.types import ConfigError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hyper:
  """Hyper-parameters of FedMD; `batch` is the revisit's, `public_batch` the public training's."""

  public_epochs: int  # passes of the pre-training on the public set, which needs `public_labels`
  private_epochs: int  # and on private data; 0 passes leave a pre-training out
  private_batch: int  # its batch
  alignment: int  # N_alignment, public examples per round
  digest_epochs: int  # passes over them
  digest_batch: int  # their batch
  revisit_epochs: int  # passes over the private data per round

  def __post_init__(self):
    """Raises ConfigError for invalid values that do not depend on the ensemble."""
    passes = dict(public_epochs=self.public_epochs, private_epochs=self.private_epochs)
    between(0, MOST_EPOCHS, **passes)
    at_least(1, private_batch=self.private_batch, digest_batch=self.digest_batch)
    at_least(1, alignment=self.alignment)
    passes = dict(digest_epochs=self.digest_epochs, revisit_epochs=self.revisit_epochs)
    between(1, MOST_EPOCHS, **passes)


def check(env: Env, hyper: Hyper) -> None:
  """Refuses invalid sizes.

  Raises:
    ConfigError: with the key, its value and what would be right.
  """
  if hyper.public_epochs and not env.training.public_batch:
    raise ConfigError("public_batch", 0, "must be at least 1 for algo.public_epochs above 0")
  if not 1 <= hyper.alignment <= env.task.public_sizes.min():
    hint = f"must lie in 1..{env.task.public_sizes.min()}, the public examples"
    raise ConfigError("algo.alignment", hyper.alignment, hint)
  if hyper.public_epochs and not env.task.public_labels:
    hint = "pre-training on the public set uses its labels: set public_labels=True, or this to 0"
    raise ConfigError("algo.public_epochs", hyper.public_epochs, hint)
  data = env.mesh.shape["data"]
  for key in ("digest_batch", "private_batch"):
    size = getattr(hyper, key)
    if size % data:
      hint = f"must be a positive multiple of the mesh's data axis, {data}"
      raise ConfigError(f"algo.{key}", size, hint)
