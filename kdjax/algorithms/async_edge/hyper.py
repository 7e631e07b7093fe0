"""The hyper-parameters of asynchronous edge learning, and the checks of their values."""

import dataclasses

from kdjax.core.ranges import MOST_EPOCHS, above_0, at_least, between, one_of

MOST_MODELS = 1000  # at an edge
INITS = ("scratch", "independent", "clone")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hyper:
  """Hyper-parameters of asynchronous edge learning; the defaults are CEM of the paper."""

  # The model that an edge starts from: scratch (fresh weights), independent (a second model trained
  # at the core) or clone (the core's own model).
  init: str = "clone"
  ensemble: int = 3  # n, models that train at an edge; 1: plain
  memory: int = 3  # M, rounds whose models teach; 1: plain
  memory_reduce: str = "sum"  # over the rounds in memory, as in the paper; or mean
  temperature: float = 4.0  # t
  literal: bool = False  # whether only the teacher is tempered, as the paper prints it
  core_epochs: int  # passes of the core's training before the rounds; 0 leaves the phase out
  edge_epochs: int  # passes per visit of an edge
  distil_epochs: int  # passes per distillation, at least 1
  # (edge, lag) per round, repeated at the end of the list: the edge whose models arrive, by its
  # number 1.. among the holders of data, and how many rounds ago its clone was taken. No clone is
  # older than the core before round 0, so a lag is at most its index in this list.
  # (): every edge in turn, with lag 0.
  arrivals: tuple = ()
  noisy: tuple = ()  # edges with wrong labels
  corruption: str = "batch"  # batch: permuted within each batch; fixed: one wrong label per example
  noise: float = 1.0  # the probability that a batch or an example is corrupted
  # A model at an edge rests for the remainder of its visit once its mean loss over a pass is below
  # this; 0: never.
  edge_threshold: float = 0.0
  # The core rests for the remainder of a distillation once its mean loss over a pass improves by
  # less than this on the pass before; 0: never.
  distil_tolerance: float = 0.0
  # Whether to evaluate in addition: each member of the edge's ensemble, the first edge's models,
  # and the core before the last distillation.
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
