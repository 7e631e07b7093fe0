"""The axis letters and every dataclass that two files share.

Axis letters, used in every docstring and shape comment:

  K    clients of one replica       R    replicas: seeds of the same ensemble, run side by side
  K_g  clients of one cohort, all replicas, in a device's own share where code runs on a device
  B    private examples per client and step         U    public examples per client and step
  S    examples per step of a server
  H    heads: 0 is the main head, 1.. the auxiliary ones          C    classes
  F    embedding width              P    pool slots per client (the paper's N_P)
  D    teachers drawn per step (the paper's Delta)  L    length of a flattened snapshot
  N    examples

Clients are numbered replica by replica: client `k = replica * K + i` is client `i` of its replica.
So are the holders of private data. Nearly always client i is holder i; a method that lets models
travel (`stack`, docs/architecture.md) has clients that work on one holder's data after another's.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

if TYPE_CHECKING:  # so that the command line answers before JAX is loaded
  import flax.linen as nn
  import jax
  import optax

  from kdjax.core.env import Env

PyTree = Any


class ConfigError(ValueError):
  """Input that cannot work: names the key, its value, and what would be right."""

  def __init__(self, key: str, value: Any, hint: str) -> None:
    self.key, self.value, self.hint = key, value, hint
    super().__init__(f"{_short(str(key))} = {_short(repr(value))}: {hint}")

  def __reduce__(self):  # worker processes raise it too
    return type(self), (self.key, self.value, self.hint)


@contextlib.contextmanager
def blamed(group: str) -> Iterator[None]:
  """Puts the group in front of the key of a ConfigError that is raised inside."""
  try:
    yield
  except ConfigError as error:
    raise ConfigError(f"{group}.{error.key}", error.value, error.hint) from None


def _short(text):
  """A text of one line, its middle left out where it is long."""
  text = text if text.isprintable() else ascii(text)
  return text if len(text) <= 400 else f"{text[:200]} ... {text[-100:]}"


class TrainingError(RuntimeError):
  """Training cannot go on; says which client, when, and what to try."""


class ModelOut(NamedTuple):
  """What every model returns for a batch of N images."""

  embedding: jax.Array  # f32[N, F], the heads' input (projected, where the config asks for it)
  logits: jax.Array  # f32[N, H, C]
  features: dict[str, jax.Array]  # named intermediates


class Health(NamedTuple):
  """What went wrong with each of the clients of one cohort; see core/health.py."""

  since: jax.Array  # i32[K_g], the call of a phase in which its numbers first were not finite; -1
  faults: jax.Array  # i32[K_g], steps that were not taken for that
  refused: jax.Array  # i32[K_g], its teachers' predictions for an example that were not taken in


class ClientState(NamedTuple):
  """The clients of one cohort; every leaf is [K_g, ...]."""

  params: PyTree
  model_state: PyTree  # BatchNorm statistics
  opt_state: PyTree
  health: Any = ()  # Health of who trains; () of a model that only speaks


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
  """The private or public half of a batch as the host draws it; all clients or a cohort's."""

  index: Any  # i32[K_g, B], the example's place in the source
  label: Any  # i32[K_g, B]; -1 where there is none
  row: Any  # i32[K_g, B], the example's place in the client's own list
  mask: Any  # f32[K_g, B], 0 where the example is padding
  image: Any = None  # [K_g, B, ..] of a set not on the devices: u8 images or f32 features
  crop: Any = None  # i32[K_g, B], which of its augmented views; None: a new one in every batch


class Examples(NamedTuple):
  """The same half as a step sees it, on the device: a cohort's clients, or one of them."""

  image: Any  # f32[K_g, B, h, w, c] or f32[K_g, B, features], augmented and normalised
  label: Any  # i32[K_g, B]; -1 where there is none
  index: Any  # i32[K_g, B], the example's place in the source
  row: Any  # i32[K_g, B], the example's place in the client's own list
  mask: Any  # f32[K_g, B], 0 where the example is padding
  key: Any = None  # key[K_g], for what the model itself draws (dropout)
  total: Any = None  # f32[K_g], unmasked examples of the whole batch, those of all devices


class Rows(NamedTuple):
  """Examples for every replica's server, each named by whose it is and its row there."""

  owner: Any  # i32[R, S], global client numbers
  row: Any  # i32[R, S], as `Examples.row`
  mask: Any  # f32[R, S], 0 where the entry is padding


class Batch(NamedTuple):
  """One step's data; a half is a tuple over cohorts, None for a cohort that takes no part.

  It holds what was drawn until `feed.materialise` makes examples of it.
  """

  private: tuple[Drawn | Examples | None, ...] | None
  public: tuple[Drawn | Examples | None, ...] | None
  server: Rows | None = None


class Now(NamedTuple):
  """Where in the run a call of a phase stands; traced, filled by the loop."""

  call: Any  # i32[], calls of all phases before this one
  phase_call: Any  # i32[], calls of this phase before this one
  visit_call: Any  # i32[], those of them in this visit of the phase
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
  batches: int  # training batches of the run before this call, which `env.graph.at` counts in


class Feed(NamedTuple):
  """The data that one step of a phase receives."""

  private: int = 0  # private examples per client
  public: int = 0  # public examples per client
  kind: str = "stream"  # 'stream': endless; 'epoch': whole passes, short clients rest at the end
  epochs: int = 1  # passes per visit, for 'epoch'
  common: bool = False  # every client of a replica receives the same public batch
  sample: int = 0  # > 0: a fresh random subset of the public set, this large, every round
  cohorts: tuple[int, ...] | None = None  # those that take part; None: all
  owner: Callable[[int, int], int] | None = None  # (round, client) -> whose data, in its replica
  # (round, client of all replicas) -> which augmented view of its private examples it sees; None: a
  # new one in every batch.
  crop: Callable[[int, int], int] | None = None
  server: Callable[[Pos], Rows] | None = None  # what the servers work on


STATUS = (  # entries of a step's aux that are no losses
  "live",  # whether the client took the step
  "failed",  # whether it could not, for a number that was not finite
  "refused",  # how many of its teachers' predictions were not taken in, not being finite
  "since",  # the first call in which a number of its own was not finite; -1
)


@runtime_checkable
class Step(Protocol):
  """One call of a phase, a pure function."""

  def __call__(self, state: TrainState, batch: Batch, now: Now) -> tuple[TrainState, PyTree]:
    """Returns (state, aux): losses by name, f32[K_g] in a dict a cohort, to be logged.

    One dict of f32[R] where a server trains. The entries of `STATUS` are no losses;
    `core.clients.update` adds them.
    """


@runtime_checkable
class Apply(Protocol):
  """One client's forward pass in training mode, on one half of its batch."""

  def __call__(
    self, params: PyTree, half: Examples, statistics: PyTree = ...
  ) -> tuple[ModelOut, PyTree]:
    """The statistics are the client's current ones unless given; returns those after the pass."""


@runtime_checkable
class Objective(Protocol):
  """What one client minimises."""

  def __call__(
    self, apply: Apply, params: PyTree, data: PyTree
  ) -> tuple[jax.Array, tuple[dict[str, jax.Array], PyTree]]:
    """(this device's share of the loss f32[], (aux: shares by name, the statistics after))."""


@runtime_checkable
class Predict(Protocol):
  """What can be tested of a state."""

  def __call__(self, state: TrainState, images: jax.Array) -> dict[str, Any]:
    """By entry ('' is the client itself): logits f32[K_g, N, H, C], a tuple over cohorts.

    Or f32[R, N, H, C], equal on every device: a server, a core, a model a replica.
    """


@runtime_checkable
class Evaluator(Protocol):
  """One measurement of a state."""

  def __call__(self, state: TrainState) -> list[dict[str, Any]]:
    """Over replicas: {key: {name: a number, or one per client}}, keys of `summary.json`."""


@runtime_checkable
class Outside(Protocol):
  """Fetches what other processes sent, on the host, before a phase is called; see kdjax/peers."""

  def __call__(
    self, stepper: Any, state: TrainState, visit: Any
  ) -> tuple[PyTree, dict[str, float]]:
    """(the phase's args: host arrays of fixed shape, what is to be counted of it: {name: number}).

    `stepper` is a training.stepper.Stepper, `visit` a training.schedule.Visit of the phase; the
    state must be left as it is.
    """


class Phase(NamedTuple):
  """One jitted program of a method and when it runs."""

  name: str
  step: Step
  feed: Feed | None  # None: the phase takes no batch (a refresh, an average)
  steps: int | Callable[[int], int] | None  # calls per visit, or round -> calls; None: epochs
  lr: Callable[[Pos], float] | None = None  # `now.lr`; None: the run's schedule, `Env.rate`
  args: Callable[[Pos], PyTree] = lambda pos: ()  # traced values: graph, draws, drop-outs
  # Bytes by kind that a call sends, every receiver counted, all replicas together.
  bytes_sent: Callable[[Pos], dict[str, int]] = lambda pos: {}
  publish: int = 0  # > 0: write every client's weights under pool/ after it; keep so many a client
  log: bool = False  # write the aux of every visit's last call, whatever `log_every` says
  closes: bool = False  # without a feed: it also ends the round that `config.steps` cuts short
  outside: Outside | None = None  # where its `args` come from elsewhere, not from the position


@runtime_checkable
class Init(Protocol):
  """A method's state at step 0."""

  def __call__(
    self, clients: tuple[ClientState, ...]
  ) -> tuple[tuple[ClientState, ...], tuple[PyTree, ...], PyTree]:
    """From fresh clients, over cohorts, to (clients, local, server) of the TrainState."""


class Algorithm(NamedTuple):
  """A method on an ensemble: its state, an optional prologue, a cycle of phases that repeats."""

  init: Init
  cycle: tuple[Phase, ...]
  predict: Predict
  prologue: tuple[Phase, ...] = ()
  bytes_at_start: Callable[[], dict[str, int]] = lambda: {}  # as `Phase.bytes_sent`, before step 0
  facts: Callable[[int], dict] = lambda rounds: {}  # the method's own keys of `summary.json`
  # (g, client, server, images) -> the client's logits, as in `predict`; None: its own model's.
  client_logits: Callable[[int, ClientState, PyTree, jax.Array], jax.Array] | None = None
  uses_graph: bool = False  # whether clients learn from each other along `env.graph`


class Method(NamedTuple):
  """A method, as a config's `algorithm` names it: `METHOD` of its module."""

  hyper: type  # a frozen dataclass of its hyper-parameters: the schema of `config.algo`
  make: Callable[[Env, Any], Algorithm]
  heads: Callable[[Any], tuple[str, ...]] = lambda hyper: ("main",)  # that its models need
  # (config.clients, hyper) -> the entries that train, where these are not one a holder of data.
  stack: Callable[[Any, Any], Any] = lambda clients, hyper: clients
  # (env, hyper, peers.Mail) -> the method for clients that train apart, `env.local_ids` in this
  # process; its `init` takes the fresh clients of all of `env.ensemble`. None: it cannot.
  make_peer: Callable[[Env, Any, Any], Algorithm] | None = None
  one_architecture: bool = False  # averages or copies weights, so all clients must be alike
  travels: bool = False  # models work on one holder's data after another's: `stack` is their list


@dataclasses.dataclass(frozen=True)
class Shards:
  """Who holds which example of the training source; the holders of all replicas, in order."""

  private: tuple[np.ndarray, ...]  # over holders: ascending i64 places in the train set
  public: tuple[np.ndarray, ...]  # over replicas: places in the public source
  primary: tuple[tuple[int, ...], ...]  # over holders: their primary labels
  label_counts: np.ndarray  # i64[holders, C] of the private examples
