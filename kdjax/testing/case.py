"""A method's declarations for the tests of its properties."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

# {phase: {collective: shapes that one device sends}}, with StableHLO's names: all_gather,
# collective_permute, reduce_scatter, all_to_all. Sums over devices (all_reduce) are not messages.
Messages = dict[str, dict[str, set[tuple[int, ...]]]]


class Sizes(NamedTuple):
  """The sizes in the shapes of `Case.messages`, for two clients per cohort on 2 x 4 devices."""

  k: int  # clients of a cohort on one device
  b: int  # a device's share of a batch
  C: int  # classes
  F: int  # embedding width
  L: int  # length of a flattened snapshot


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
  """A method under test, with everything that it must declare.

  The defaults are those of a method that sends only sums (averages of weights are sums).
  """

  method: str  # as `config.algorithm`: 'mhd', or 'package.module:METHOD'
  algo: dict[str, Any] = dataclasses.field(default_factory=dict)  # small hyper-parameters
  rounds: int = 0  # > 0: the length of the test in turns of the cycle, instead of steps
  graph: str = "complete"  # the kind of graph that it runs on
  along_graph: bool = False  # clients learn from their teachers in the graph, and from no others
  by_name: bool = True  # it draws by the clients' names: permuting clients permutes results
  # Seeds side by side are separate runs. That is not so if a phase's length is drawn or depends on
  # the number of examples: replicas wait for each other, and the longest sets the schedule.
  folds: bool = True
  one_core: bool = False  # cohorts grow with replicas, not with clients: the first holder is a core
  messages: Messages | Callable[[Sizes], Messages] = dataclasses.field(default_factory=dict)
  # Keys of `algo` that hold a batch size; the test of shared work makes these larger.
  batches: tuple[str, ...] = ()
  changes: dict[str, Any] = dataclasses.field(default_factory=dict)  # other config keys, dotted
  # Last changes to the small config, which may depend on it, as a server's network on its dtype.
  adapt: Callable[[Any], None] = lambda config: None
