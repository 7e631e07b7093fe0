"""The axis letters and every dataclass that two files share.

Axis letters, used in every docstring and shape comment:

  K    clients of one replica       R    replicas: the same ensemble with several seeds
  K_g  clients of one cohort in all replicas; in code that runs on a device, the device's share
  B    private examples per client and step         U    public examples per client and step
  S    examples per step of a server
  H    heads: 0 is the main head, 1.. the auxiliary ones          C    classes
  F    embedding width              P    pool slots per client (the paper's N_P)
  D    teachers drawn per step (the paper's Delta)  L    length of a flattened snapshot
  N    examples

Clients are numbered replica by replica: client `k = replica * K + i` is client `i` of its replica.
The holders of private data are numbered in the same way. Nearly always client i is holder i. In a
method whose models travel (`stack`, docs/architecture.md) a client works on one holder's data after
another's.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

if TYPE_CHECKING:  # at run time the command line answers before JAX is loaded
  import flax.linen as nn
  import jax
  import optax

  from kdjax.core.env import Env

PyTree = Any


class ConfigError(ValueError):
  """Invalid input: names the key, its value, and what would be right."""

  def __init__(self, key: str, value: Any, hint: str) -> None:
    self.key, self.value, self.hint = key, value, hint
    super().__init__(f"{_short(str(key))} = {_short(repr(value))}: {hint}")

  def __reduce__(self):  # worker processes raise it too, so it must survive pickling
    return type(self), (self.key, self.value, self.hint)


@contextlib.contextmanager
def blamed(group: str) -> Iterator[None]:
  """Prefixes the key of a ConfigError that is raised inside with the name of its group."""
  try:
    yield
  except ConfigError as error:
    raise ConfigError(f"{group}.{error.key}", error.value, error.hint) from None


def _short(text):
  """The text on one line, without its middle if it is long."""
  text = text if text.isprintable() else ascii(text)
  return text if len(text) <= 400 else f"{text[:200]} ... {text[-100:]}"


class TrainingError(RuntimeError):
  """Training cannot continue: names the client, the step, and what to try."""


class ModelOut(NamedTuple):
  """What every model returns for a batch of N images."""

  embedding: jax.Array  # f32[N, F], the heads' input (projected, where the config asks for it)
  logits: jax.Array  # f32[N, H, C]
  features: dict[str, jax.Array]  # named intermediates


class Health(NamedTuple):
  """The faults of each client of one cohort; see core/health.py."""

  # i32[K_g], first phase call with a non-finite loss, gradient or statistic; -1: never
  since: jax.Array
  faults: jax.Array  # i32[K_g], steps skipped for that reason
  refused: jax.Array  # i32[K_g], teacher predictions rejected as invalid


class ClientState(NamedTuple):
  """The clients of one cohort; every leaf is [K_g, ...]."""

  params: PyTree
  model_state: PyTree  # BatchNorm statistics
  opt_state: PyTree
  health: Any = ()  # Health; () for a model that is only evaluated


@dataclasses.dataclass(frozen=True)
class Cohort:
  """Clients that run the same program; static, never traced."""

  name: str  # as the config spells it
  model: nn.Module  # (images, train, mask) -> ModelOut
  tx: optax.GradientTransformation  # without a learning rate
  ids: tuple[int, ...]  # global client numbers, ascending
  template: ClientState  # shapes of one client
  width: int  # F


class TrainState(NamedTuple):
  """Everything that training changes; its four fields are the sharding specification."""

  calls: jax.Array  # i32[], calls of phases so far: the position in the run
  clients: tuple[ClientState, ...]  # over cohorts; sharded over the mesh's `client` axis
  local: tuple[PyTree, ...]  # over cohorts, the method's own state; leaves [K_g, ...]
  server: PyTree  # the method's global state, replicated


class Drawn(NamedTuple):
  """The private or public half of a batch as the host draws it, for all clients or one cohort."""

  index: Any  # i32[K_g, B], the example's place in the source
  label: Any  # i32[K_g, B]; -1 where there is none
  row: Any  # i32[K_g, B], the example's place in the client's own list
  mask: Any  # f32[K_g, B], 0 where the example is padding
  image: Any = None  # [K_g, B, ..], u8 images or f32 features; None: the set is on the devices
  crop: Any = None  # i32[K_g, B], which augmented view; None: a new one in every batch


class Examples(NamedTuple):
  """The same half as a step sees it on the device, for a cohort's clients or for one of them."""

  image: Any  # f32[K_g, B, h, w, c] or f32[K_g, B, features], augmented and normalised
  label: Any  # i32[K_g, B]; -1 where there is none
  index: Any  # i32[K_g, B], the example's place in the source
  row: Any  # i32[K_g, B], the example's place in the client's own list
  mask: Any  # f32[K_g, B], 0 where the example is padding
  key: Any = None  # key[K_g], for the model's own draws (dropout)
  total: Any = None  # f32[K_g], unmasked examples of the whole batch, on all devices


class Rows(NamedTuple):
  """Examples for every replica's server, named by their owner and their row in the owner's list."""

  owner: Any  # i32[R, S], global client numbers
  row: Any  # i32[R, S], as `Examples.row`
  mask: Any  # f32[R, S], 0 where the entry is padding


class Batch(NamedTuple):
  """One step's data; a half is a tuple over cohorts, None for a cohort that takes no part.

  The halves are Drawn until `feed.materialise` turns them into Examples.
  """

  private: tuple[Drawn | Examples | None, ...] | None
  public: tuple[Drawn | Examples | None, ...] | None
  server: Rows | None = None


class Now(NamedTuple):
  """The position of a phase's call in the run; traced, filled by the loop."""

  call: Any  # i32[], calls of all phases before this one
  phase_call: Any  # i32[], calls of this phase before this one
  visit_call: Any  # i32[], calls before this one in this visit of the phase
  round: Any  # i32[], turns of the cycle completed
  lr: Any  # f32[]
  args: PyTree  # what `Phase.args` returned


class Pos(NamedTuple):
  """`Now` on the host: plain integers, a function of `TrainState.calls`, config and shard sizes."""

  call: int
  phase_call: int
  visit_call: int
  round: int
  visit_calls: int  # calls of this visit
  phase_calls: int  # calls of this phase in the whole run
  batches: int  # training batches of the run before this call; the unit of `env.graph.at`


class Feed(NamedTuple):
  """The data that one step of a phase receives."""

  private: int = 0  # private examples per client
  public: int = 0  # public examples per client
  kind: str = "stream"  # 'stream': endless; 'epoch': whole passes, clients with less data rest
  epochs: int = 1  # passes per visit, for 'epoch'
  common: bool = False  # every client of a replica receives the same public batch
  sample: int = 0  # > 0: in every round a fresh random subset of the public set, this large
  cohorts: tuple[int, ...] | None = None  # the cohorts that take part; None: all
  # (round, client) -> the holder, in the client's replica, whose data it works on.
  owner: Callable[[int, int], int] | None = None
  # (round, client of all replicas) -> which augmented view of its private examples it sees; None: a
  # new one in every batch.
  crop: Callable[[int, int], int] | None = None
  server: Callable[[Pos], Rows] | None = None  # the rows that the servers work on


STATUS = (  # entries of a step's aux that are not losses
  "live",  # whether the client took the step
  "failed",  # whether it skipped the step because a number was not finite
  "refused",  # teacher predictions rejected as invalid
  "since",  # the first call in which one of its numbers was not finite; -1
)


@runtime_checkable
class Step(Protocol):
  """One call of a phase, a pure function."""

  def __call__(self, state: TrainState, batch: Batch, now: Now) -> tuple[TrainState, PyTree]:
    """Returns (state, aux); aux holds the losses to log: per cohort a dict of f32[K_g].

    Where a server trains, aux is a single dict of f32[R]. The entries of `STATUS` are not losses:
    `core.clients.update` adds 'live' and 'failed', the loop 'since', an objective 'refused'.
    """


@runtime_checkable
class Apply(Protocol):
  """One client's forward pass in training mode, on one half of its batch."""

  def __call__(
    self, params: PyTree, half: Examples, statistics: PyTree = ...
  ) -> tuple[ModelOut, PyTree]:
    """Returns (ModelOut, the statistics after the pass).

    The pass starts from the client's current statistics unless others are given.
    """


@runtime_checkable
class Objective(Protocol):
  """The loss that one client minimises."""

  def __call__(
    self, apply: Apply, params: PyTree, data: PyTree
  ) -> tuple[jax.Array, tuple[dict[str, jax.Array], PyTree]]:
    """Returns (this device's share of the loss f32[], (aux, statistics after the pass)).

    aux is a dict of this device's shares by name.
    """


@runtime_checkable
class Predict(Protocol):
  """The logits to evaluate, by entry."""

  def __call__(self, state: TrainState, images: jax.Array) -> dict[str, Any]:
    """Returns {entry: logits}; the entry '' is the clients themselves.

    Logits are f32[K_g, N, H, C] in a tuple over cohorts, or f32[R, N, H, C], equal on every device,
    for a model that each replica has once, such as a server.
    """


@runtime_checkable
class Evaluator(Protocol):
  """One measurement of a state."""

  def __call__(self, state: TrainState) -> list[dict[str, Any]]:
    """Returns, over replicas, {key of `summary.json`: {name: a number, or one per client}}."""


@runtime_checkable
class Outside(Protocol):
  """Fetches other processes' messages on the host before a phase is called; see kdjax/peers."""

  def __call__(
    self, stepper: Any, state: TrainState, visit: Any
  ) -> tuple[PyTree, dict[str, float]]:
    """Returns (the phase's args as host arrays of fixed shape, {name: number} to be counted).

    `stepper` is a training.stepper.Stepper, `visit` a training.schedule.Visit of the phase. The
    state must not be changed.
    """


class Phase(NamedTuple):
  """One jitted program of a method, and when it runs."""

  name: str
  step: Step
  feed: Feed | None  # None: the phase takes no batch (a refresh, an average)
  steps: int | Callable[[int], int] | None  # calls per visit, or round -> calls; None: epochs
  lr: Callable[[Pos], float] | None = None  # `now.lr`; None: the run's schedule, `Env.rate`
  args: Callable[[Pos], PyTree] = lambda pos: ()  # traced values: graph, draws, drop-outs
  # Bytes by kind that a call sends, every receiver counted, all replicas together.
  bytes_sent: Callable[[Pos], dict[str, int]] = lambda pos: {}
  publish: int = 0  # > 0: write each client's weights under pool/ after it; keep this many of each
  log: bool = False  # write the aux of every visit's last call, whatever `log_every` is
  closes: bool = False  # without a feed: it also ends a round that `config.steps` cuts short
  outside: Outside | None = None  # the source of its `args` where the position does not give them


@runtime_checkable
class Init(Protocol):
  """A method's state at step 0."""

  def __call__(
    self, clients: tuple[ClientState, ...]
  ) -> tuple[tuple[ClientState, ...], tuple[PyTree, ...], PyTree]:
    """Maps fresh clients, over cohorts, to (clients, local, server) of the TrainState."""


class Algorithm(NamedTuple):
  """A method on an ensemble: its state, an optional prologue and a cycle of phases that repeats."""

  init: Init
  cycle: tuple[Phase, ...]
  predict: Predict
  prologue: tuple[Phase, ...] = ()
  bytes_at_start: Callable[[], dict[str, int]] = lambda: {}  # as `Phase.bytes_sent`, before step 0
  facts: Callable[[int], dict] = lambda rounds: {}  # the method's own keys of `summary.json`
  # (g, client, server, images) -> the client's logits, as in `predict`; None: those of its model.
  client_logits: Callable[[int, ClientState, PyTree, jax.Array], jax.Array] | None = None
  uses_graph: bool = False  # whether clients learn from each other along `env.graph`


class Method(NamedTuple):
  """A method, as a config's `algorithm` names it: `METHOD` of its module."""

  hyper: type  # a frozen dataclass of its hyper-parameters: the schema of `config.algo`
  make: Callable[[Env, Any], Algorithm]
  heads: Callable[[Any], tuple[str, ...]] = lambda hyper: ("main",)  # the heads its models need
  # (config.clients, hyper) -> the entries that train, where they are not one per holder of data.
  stack: Callable[[Any, Any], Any] = lambda clients, hyper: clients
  # (env, hyper, peers.Mail) -> the method for clients that train apart, `env.local_ids` in this
  # process; its `init` takes the fresh clients of all of `env.ensemble`. None: not supported.
  make_peer: Callable[[Env, Any, Any], Algorithm] | None = None
  one_architecture: bool = False  # averages or copies weights: all clients need the same model
  travels: bool = False  # models work on one holder's data after another's; `stack` lists them


@dataclasses.dataclass(frozen=True)
class Shards:
  """The examples of the training source that each holder has; holders of all replicas, in order."""

  private: tuple[np.ndarray, ...]  # over holders: ascending i64 places in the train set
  public: tuple[np.ndarray, ...]  # over replicas: places in the public source
  primary: tuple[tuple[int, ...], ...]  # over holders: their primary labels
  label_counts: np.ndarray  # i64[holders, C] of the private examples
