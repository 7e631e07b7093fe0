"""The hyper-parameters of FedMD, and the checks of their values."""

import dataclasses

from kdjax.core.env import Env
from kdjax.core.ranges import MOST_EPOCHS, at_least, between
from kdjax.types import ConfigError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hyper:
  """Hyper-parameters of FedMD.

  `config.batch` is the batch of the revisit, `config.public_batch` that of the public pre-training.
  """

  public_epochs: int  # passes of the pre-training on the public set, which needs `public_labels`
  private_epochs: int  # passes of the pre-training on private data; 0 leaves a pre-training out
  private_batch: int  # batch of the pre-training on private data
  alignment: int  # N_alignment, public examples per round
  digest_epochs: int  # passes over these public examples
  digest_batch: int  # batch of the digest and of the consensus
  revisit_epochs: int  # passes over the private data per round

  def __post_init__(self):
    """Raises ConfigError for invalid values that do not depend on the ensemble."""
    prologue = dict(public_epochs=self.public_epochs, private_epochs=self.private_epochs)
    between(0, MOST_EPOCHS, **prologue)
    at_least(1, private_batch=self.private_batch, digest_batch=self.digest_batch)
    at_least(1, alignment=self.alignment)
    cycle = dict(digest_epochs=self.digest_epochs, revisit_epochs=self.revisit_epochs)
    between(1, MOST_EPOCHS, **cycle)


def check(env: Env, hyper: Hyper) -> None:
  """Raises ConfigError for sizes that the ensemble does not allow."""
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
