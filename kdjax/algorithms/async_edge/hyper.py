"""The hyper-parameters of asynchronous edge learning, and what they cannot be."""

import dataclasses

from kdjax.types import ConfigError, at_least

INITS = ("scratch", "independent", "clone")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hyper:
  """Hyper-parameters of asynchronous edge learning; what has a value is CEM of the paper."""

  # What an edge starts from: scratch (fresh weights), independent (a model that trained at the core
  # beside the core's own) or clone (the core's own).
  init: str = "clone"
  ensemble: int = 3  # n, models that train at an edge; 1: plain
  memory: int = 3  # M, rounds whose models teach; 1: plain
  memory_reduce: str = "sum"  # over them, as in the paper; or mean
  temperature: float = 4.0  # t
  literal: bool = False  # whether only the teacher is tempered, as printed
  core_epochs: int  # passes per visit; 0 leaves the phase out
  edge_epochs: int  # likewise
  distil_epochs: int  # at least 1
  # (edge, lag) a round, from the front again when they end: whose models arrive, an edge by its
  # number 1.. among those who hold data, and from how many rounds before this one its clone is;
  # none is older than the trained core of before round 0. (): every edge in turn, lag 0.
  arrivals: tuple = ()
  noisy: tuple = ()  # edges whose labels are permuted against their images within a batch
  noise: float = 1.0  # the probability of that in each of their batches
  flag_above: float = 0.02  # rise of the core's training accuracy (a fraction) that flags a round


def check(hyper: Hyper) -> None:
  """Refuses values that cannot be.

  Raises:
    ConfigError: with the key, its value and what would be right.
  """
  at_least(1, memory=hyper.memory, distil_epochs=hyper.distil_epochs)
  at_least(0, core_epochs=hyper.core_epochs, edge_epochs=hyper.edge_epochs)
  at_least(0, flag_above=hyper.flag_above)
  if not hyper.temperature > 0:
    raise ConfigError("algo.temperature", hyper.temperature, "must be above 0")
  if hyper.memory_reduce not in ("sum", "mean"):
    raise ConfigError("algo.memory_reduce", hyper.memory_reduce, "must be 'sum' or 'mean'")
