"""The hyper-parameters of FedGKT, and the checks of their values."""

import dataclasses
from collections.abc import Callable

from kdjax.core.ranges import MOST_EPOCHS, above_0, at_least, between, one_of
from kdjax.plugins import fits, wrong_type
from kdjax.types import ConfigError

ORDERS = ("client", "shuffled")
TRAINS_ON = ("arrivals", "all")
ANSWERS = ("apart", "before", "after")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hyper:
  """Hyper-parameters of FedGKT; defaults follow the paper or its code unless noted.

  Clients' networks may differ, but not in the shape of the feature at the cut.
  """

  # (model, all model arguments); `config.model` applies to the clients only.
  server: tuple[str, dict]
  # The server's optimiser and rate, in the form of `config.optim`, which is that of the edges.
  server_optim: dict
  cut: str = "extractor"  # the uploaded feature: an entry of the model's `features`, or embedding
  edge_epochs: int = 1  # E_c, passes of an edge over its own data per round
  # E_s, passes over the uploads: a number, or ((until round, number), ...), where the last number
  # holds to the end.
  server_epochs: int | tuple
  server_batch: int  # S, rows per step of a server; a multiple of the number of devices
  order: str = "client"  # client: no batch mixes clients, as in the code; or shuffled
  temperature: float = 3.0  # T
  alpha: float = 1.0  # weight of the edge's KD and of the server's CE
  edge_distils: bool = True  # whether the edge learns from logits (S -> E); if not, from CE alone
  server_distils: bool = True  # whether the server learns from logits (E -> S)
  # Plateau of the server's learning rate; with patience 0 the rate never falls.
  plateau: dict = dataclasses.field(default_factory=lambda: dict(factor=0.1, patience=10))
  # Clients that arrive before the server starts on their uploads; 0: all of them, synchronous.
  arrivals: int = 0
  # Probability that a client arrives in a round. A client that does not arrive keeps its old
  # logits. A round in which no client arrives logs zeros.
  present: float = 1.0
  # The uploads that the server learns from when a group arrives: the group's uploads (arrivals), or
  # the newest upload of every client that ever arrived (all).
  trains_on: str = "arrivals"
  # The source of the server's answers: a separate pass in evaluation mode after its last epoch
  # (apart), or the last epoch itself, in training mode, before the step on a batch, as in the code
  # (before), or after the step, as in Algorithm 1 (after). The default is ours, so that answers do
  # not depend on which examples share a batch.
  answers: str = "apart"
  # True: logits are kept by example and belong to its crop; the crop that was uploaded is trained
  # on next. False: logits are kept by the example's place in the pass, as in the code, although
  # every pass is shuffled and cropped again, so that they meet the wrong examples. The default is
  # ours and corrects this.
  keyed: bool = True

  def __post_init__(self):
    """Raises ConfigError for invalid values that do not depend on the ensemble."""
    between(1, MOST_EPOCHS, edge_epochs=self.edge_epochs)
    at_least(1, server_batch=self.server_batch)
    at_least(0, alpha=self.alpha, arrivals=self.arrivals)
    above_0(temperature=self.temperature)
    one_of(ORDERS, order=self.order)
    one_of(TRAINS_ON, trains_on=self.trains_on)
    one_of(ANSWERS, answers=self.answers)
    if not 0 < self.present <= 1:
      raise ConfigError("algo.present", self.present, "must be a probability above 0")
    epoch_schedule(self.server_epochs)
    _check_plateau(self.plateau)


def _check_plateau(plateau):
  if sorted(plateau) != ["factor", "patience"]:
    raise ConfigError("algo.plateau", plateau, "must be dict(factor=..., patience=...)")
  for key, kind in (("factor", float), ("patience", int)):
    hint = wrong_type(plateau[key], kind)
    if hint:
      raise ConfigError(f"algo.plateau.{key}", plateau[key], hint)
  if not 0 < plateau["factor"] < 1:
    raise ConfigError("algo.plateau.factor", plateau["factor"], "must lie between 0 and 1")
  if plateau["patience"] < 0:
    raise ConfigError("algo.plateau.patience", plateau["patience"], "must not be negative; 0: off")


def epoch_schedule(epochs: int | tuple) -> Callable[[int], int]:
  """round -> epochs, from a number or from ((until round, number), ...).

  Raises:
    ConfigError: for numbers below 1, or rounds that do not ascend.
  """
  parts = ((1, epochs),) if isinstance(epochs, int) else epochs
  pairs = fits(parts, tuple[tuple[int, int], ...]) and len(parts) > 0
  rounds, numbers = zip(*parts, strict=True) if pairs else ((), (0,))
  if not 1 <= min(numbers) <= max(numbers) <= MOST_EPOCHS or list(rounds) != sorted(set(rounds)):
    hint = f"must be a number in 1..{MOST_EPOCHS:,}, or ((until round, number), ...), ascending"
    raise ConfigError("algo.server_epochs", epochs, hint)
  return lambda round: next((n for until, n in parts if round < until), numbers[-1])
