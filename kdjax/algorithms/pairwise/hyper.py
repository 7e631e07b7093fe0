"""The hyper-parameters of pairwise transfer, and the checks of their values."""

import dataclasses

import optax

from kdjax import optim
from kdjax.algorithms.pairwise import layers as interest
from kdjax.core.ranges import MOST_EPOCHS, at_least, between, one_of
from kdjax.types import ConfigError

VARIANTS = ("eq5", "eq1", "algorithm1", "as_coded")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hyper:
  """Hyper-parameters of pairwise transfer; the paper does not specify those with a default."""

  # The layers of interest: paths such as 'heads/hidden', or tuples of paths, of which the first one
  # in a model counts. A layer's kernel must have the same shape in all architectures.
  layers: tuple[str | tuple[str, ...], ...]
  alpha: float  # weight of the cross entropy in eq5
  beta: float  # weight of the divergence; alpha and beta add up to 1
  variant: str = "eq5"  # or eq1, algorithm1, as_coded
  divergence: str = "source"  # source: KL(P || Q), our reading of Eq. 4; target: KL(Q || P)
  maps: str = "kept"  # kept, with their optimiser, over all fetches (the paper); or fresh at each
  start: float = 0.0  # a of a map's first value, [a I; (1 - a) I]
  noise: float = 0.0  # standard deviation of normal noise on that value; ours
  write: str = "epoch"  # or batch: how often W* takes W_b's place; ignored by as_coded
  transfer_optim: dict  # the maps' optimiser, in the form of `config.optim`
  local_epochs: int = 1  # passes over the private data before a fetch; 0: none, as Algorithm 1
  transfer_epochs: int = 1  # passes over the private data after a fetch
  by_step: bool = False  # whether both count batches: 1 and 1 is a transfer after every local step
  sources: int = 0  # how many of a client's teachers it uses, the best by their metadata; 0: all
  new_class_below: int = 20  # for `sources`: with fewer examples of a class, it is new to a client

  def __post_init__(self):
    """Raises ConfigError for invalid values that do not depend on the ensemble."""
    at_least(0, alpha=self.alpha, beta=self.beta, noise=self.noise, sources=self.sources)
    at_least(0, new_class_below=self.new_class_below)
    between(0, MOST_EPOCHS, local_epochs=self.local_epochs)
    between(1, MOST_EPOCHS, transfer_epochs=self.transfer_epochs)
    between(0, 1, start=self.start)
    if not abs(self.alpha + self.beta - 1) <= 1e-6:
      hint = f"alpha and beta add up to 1 (Eq. 5): {1 - self.alpha:g}"
      raise ConfigError("algo.beta", self.beta, hint)
    one_of(VARIANTS, variant=self.variant)
    one_of(("source", "target"), divergence=self.divergence)
    one_of(("kept", "fresh"), maps=self.maps)
    one_of(("epoch", "batch"), write=self.write)
    paths = [name for layer in self.layers for name in interest.names(layer)]
    if not all(map(interest.names, self.layers)) or not paths or len(set(paths)) < len(paths):
      raise ConfigError("algo.layers", self.layers, "at least one path, each once")
    if self.variant == "eq1" and len(self.layers) > 1:
      raise ConfigError("algo.layers", self.layers, "one layer: Eq. 1 compares the outputs of one")


def maps_optimiser(arguments: dict) -> tuple[optax.GradientTransformation, optim.Rate]:
  """The maps' (optax.GradientTransformation, (count, total) -> learning rate), see `optim.make`."""
  tx, rate = optim.make_under("algo.transfer_optim", arguments)
  if arguments["weight_decay"]:
    hint = "must be 0: a map that decays forgets its target"
    raise ConfigError("algo.transfer_optim.weight_decay", arguments["weight_decay"], hint)
  return tx, rate
