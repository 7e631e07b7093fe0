"""The hyper-parameters of FedGKT, and what they cannot be."""

import dataclasses

from kdjax.types import ConfigError, at_least


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hyper:
  """Hyper-parameters of FedGKT; what has a value is the paper's, or its code's.

  Clients' networks may differ, but not in the shape of the feature at the cut.
  """

  # (model, model arguments), all of them: `config.model` is the clients'.
  server: tuple[str, dict]
  cut: str = "extractor"  # what is uploaded: an entry of the model's `features`, or embedding
  edge_epochs: int = 1  # E_c, passes over its own data per round
  # E_s, passes over the uploads: a number, or ((until round, number), ...), the last of which holds
  # to the end.
  server_epochs: int | tuple
  server_batch: int  # S, rows a step of a server; a multiple of the number of devices
  order: str = "client"  # as the code, no batch mixes clients; or shuffled
  temperature: float = 3.0  # T
  alpha: float = 1.0  # weight of the edge's KD and of the server's CE
  edge_distils: bool = True  # whether the edge learns from logits (S -> E); if not, from CE alone
  server_distils: bool = True  # whether the server does (E -> S)
  # Of the server's learning rate; patience 0 never lowers it.
  plateau: dict = dataclasses.field(default_factory=lambda: dict(factor=0.1, patience=10))
  # Clients that arrive before the server starts on their uploads; 0: all of them, synchronous.
  arrivals: int = 0
  # Probability that a client arrives in a round at all; who does not keeps its old logits. A round
  # in which nobody arrives logs zeros.
  present: float = 1.0
  # False keeps logits by an example's place in the pass, as the code did, although every pass is
  # shuffled afresh: they meet the wrong examples.
  keyed: bool = True


def check(hyper: Hyper) -> None:
  """Refuses values that cannot be.

  Raises:
    ConfigError: with the key, its value and what would be right.
  """
  at_least(1, edge_epochs=hyper.edge_epochs)
  at_least(0, alpha=hyper.alpha)
  if not hyper.temperature > 0:
    raise ConfigError("algo.temperature", hyper.temperature, "must be above 0")
  plateau = hyper.plateau
  if sorted(plateau) != ["factor", "patience"]:
    raise ConfigError("algo.plateau", plateau, "must be dict(factor=..., patience=...)")
  if not 0 < plateau["factor"] < 1:
    raise ConfigError("algo.plateau.factor", plateau["factor"], "must lie between 0 and 1")
  if plateau["patience"] < 0:
    raise ConfigError("algo.plateau.patience", plateau["patience"], "must not be negative; 0: off")
