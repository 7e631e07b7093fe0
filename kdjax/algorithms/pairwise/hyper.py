"""The hyper-parameters of pairwise transfer, and what they cannot be."""

import dataclasses
from collections.abc import Callable

import optax

from kdjax import optim
from kdjax.types import ConfigError, at_least


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


def check(hyper: Hyper) -> None:
  """Refuses values that cannot be.

  Raises:
    ConfigError: with the key, its value and what would be right.
  """
  at_least(0, alpha=hyper.alpha, beta=hyper.beta, noise=hyper.noise, sources=hyper.sources)
  at_least(1, local_epochs=hyper.local_epochs, transfer_epochs=hyper.transfer_epochs)
  if abs(hyper.alpha + hyper.beta - 1) > 1e-6:
    hint = f"alpha and beta add up to 1 (Eq. 5): {1 - hyper.alpha:g}"
    raise ConfigError("algo.beta", hyper.beta, hint)
  choices = {"variant": ("eq5", "algorithm1", "as_coded"), "write": ("epoch", "batch")}
  for key, known in choices.items():
    if getattr(hyper, key) not in known:
      raise ConfigError(f"algo.{key}", getattr(hyper, key), "must be one of " + ", ".join(known))


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
