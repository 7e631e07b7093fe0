"""The hyper-parameters of asynchronous edge learning, and what they cannot be."""

import dataclasses

from kdjax.core.ranges import MOST_EPOCHS, above_0, at_least, between, one_of

MOST_MODELS = 1000  # at an edge
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
  # (edge, lag) of each round, repeated when they end: whose models arrive, an edge by its number
  # 1.. among those who hold data, and how many rounds ago its clone was taken. A clone can be at
  # most as old as the core before round 0, so a lag is at most its index in this list.
  # (): every edge in turn, lag 0.
  arrivals: tuple = ()
  noisy: tuple = ()  # edges whose labels are wrong
  corruption: str = "batch"  # permuted anew within every batch; or fixed, once for an example
  noise: float = 1.0  # the probability of that, of a batch or an example
  # A model at an edge rests for what is left of its visit once its mean loss over a pass is below
  # this; 0: never.
  edge_threshold: float = 0.0
  # So does the core once its mean loss over a pass is lower by less than this than over the one
  # before; 0: never.
  distil_tolerance: float = 0.0
  # Whether these are tested too: the members of the edge's ensemble one by one, the first edge's
  # models, and the core as it was before the distillation.
  track: bool = False
  flag_above: float = 0.02  # rise of the core's training accuracy (a fraction) that flags a round

  def __post_init__(self):
    """Raises ConfigError for invalid values that do not depend on the ensemble."""
    one_of(INITS, init=self.init)
    between(1, MOST_MODELS, ensemble=self.ensemble)
    at_least(1, memory=self.memory)
    one_of(("sum", "mean"), memory_reduce=self.memory_reduce)
    one_of(("batch", "fixed"), corruption=self.corruption)
    at_least(0, edge_threshold=self.edge_threshold, distil_tolerance=self.distil_tolerance)
    above_0(temperature=self.temperature)
    between(0, MOST_EPOCHS, core_epochs=self.core_epochs, edge_epochs=self.edge_epochs)
    between(1, MOST_EPOCHS, distil_epochs=self.distil_epochs)
    at_least(0, flag_above=self.flag_above)
