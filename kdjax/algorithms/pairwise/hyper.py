"""The hyper-parameters of pairwise transfer, and what they cannot be."""

import dataclasses
from collections.abc import Callable

import optax

from kdjax import optim
from kdjax.types import MOST_EPOCHS, ConfigError, at_least, between, one_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hyper:
  """Hyper-parameters of pairwise transfer; the paper leaves open what has a value."""

  layers: tuple[str, ...]  # of interest, paths such as 'heads/hidden'; alike in all models
  alpha: float  # weight of the cross entropy in eq5
  beta: float  # weight of the divergence; alpha and beta add up to 1
  variant: str = "eq5"  # or algorithm1, as_coded
  noise: float = 0.001  # standard deviation of the normal noise on a map's first [0; I]
  write: str = "epoch"  # or batch: how often W* takes W_b's place; of no account for as_coded
  transfer_optim: dict  # the maps' optimiser, as `config.optim`
  local_epochs: int = 1  # passes over the private data before a fetch
  transfer_epochs: int = 1  # and after it
  sources: int = 0  # so many of a client's teachers, the best by what they advertise; 0: all
  new_class_below: int = 20  # for `sources`: a class is new to who has seen fewer examples of it

  def __post_init__(self):
    """Refuses values that cannot be, whatever the ensemble: ConfigError."""
    at_least(0, alpha=self.alpha, beta=self.beta, noise=self.noise, sources=self.sources)
    at_least(0, new_class_below=self.new_class_below)
    between(1, MOST_EPOCHS, local_epochs=self.local_epochs, transfer_epochs=self.transfer_epochs)
    if not abs(self.alpha + self.beta - 1) <= 1e-6:
      hint = f"alpha and beta add up to 1 (Eq. 5): {1 - self.alpha:g}"
      raise ConfigError("algo.beta", self.beta, hint)
    one_of(("eq5", "algorithm1", "as_coded"), variant=self.variant)
    one_of(("epoch", "batch"), write=self.write)
    if not self.layers or len(set(self.layers)) < len(self.layers):
      raise ConfigError("algo.layers", self.layers, "at least one path, each once")


def maps_optimiser(arguments: dict) -> tuple[optax.GradientTransformation, Callable]:
  """(optax.GradientTransformation, (count, total) -> learning rate), see `optim.make`."""
  try:
    tx, rate = optim.make(**arguments)
  except ConfigError as error:
    key = error.key.removeprefix("optim")
    raise ConfigError(f"algo.transfer_optim{key}", error.value, error.hint) from None
  if arguments["weight_decay"]:
    hint = "must be 0: a map that decays forgets its target"
    raise ConfigError("algo.transfer_optim.weight_decay", arguments["weight_decay"], hint)
  return tx, rate
