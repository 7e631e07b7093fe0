"""What a method says of itself, so that its properties can be tested."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

# {phase: {collective: shapes that one device hands over}}, as StableHLO names them: all_gather,
# collective_permute, reduce_scatter, all_to_all. Sums over devices (all_reduce) are not messages.
Messages = dict[str, dict[str, set[tuple[int, ...]]]]


class Sizes(NamedTuple):
  """The sizes in the shapes of `Case.messages`: of two clients a cohort on 2 x 4 devices."""

  k: int  # clients of a cohort on one device
  b: int  # a device's share of a batch
  C: int  # classes
  F: int  # embedding width
  L: int  # length of a flattened snapshot


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
  """A method under test; all that it must declare stands here.

  The defaults are those of a method that sends nothing but sums (averages of weights are sums).
  """

  method: str  # as `config.algorithm`: 'mhd', or 'package.module:METHOD'
  algo: dict[str, Any] = dataclasses.field(default_factory=dict)  # small hyper-parameters
  rounds: int = 0  # > 0: the method counts turns of its cycle, so many, in place of steps
  graph: str = "complete"  # the kind that it runs on
  along_graph: bool = False  # clients hear their teachers in the graph, and nobody else
  by_name: bool = True  # it draws by the clients' names: permuting clients permutes results
  # Seeds side by side are separate runs; not where a phase's length is drawn or hangs on how
  # many examples are held: replicas wait for each other, and a schedule stretches with the longest.
  folds: bool = True
  one_core: bool = False  # cohorts grow with replicas, not with clients: the first holder is a core
  messages: Messages | Callable[[Sizes], Messages] = dataclasses.field(default_factory=dict)
  # Keys of `algo` that hold a batch: larger in the test of how work is shared.
  batches: tuple[str, ...] = ()
  changes: dict[str, Any] = dataclasses.field(default_factory=dict)  # other config keys, dotted
  # Last changes to the small config, which may depend on it: a server's network, by its dtype.
  adapt: Callable[[Any], None] = lambda config: None
