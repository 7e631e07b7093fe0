"""Asynchronous edge learning: a core learns from models that it sends to one edge after another.

Lee, Yoo and Kwak: Asynchronous Edge Learning using Cloned Knowledge Distillation, 2020,
https://arxiv.org/abs/2010.10338v1, Section 3 and Algorithm 1. `config.clients` lists who holds
data: the first is the core, all others are edges. The core trains on its own data; then, a round,

  dispatch  n equal models start at an edge: clones of the core, or what `init` says
  edge      they train on the edge's data, each in a batch order of its own       (L_edge, Eq. 1)
  collect   they enter the core's memory, which holds those of the last M rounds
  distil    the core, on its own data: CE + sum over memory of t^2 KL(teacher || core)    (Eq. 2)
  watch     the core's training accuracy, and whether it jumped: a sign of a corrupted teacher

A round's teacher is the mean of its n models' tempered probabilities. The variants of Fig. 5:

  init          n = 1, M = 1   n > 1, M = 1   n = 1, M > 1   n > 1, M > 1
  scratch       IsPP
  independent   IPP            IEP            IPM
  clone         CPP            CEP            CPM            CEM

Readings: Eqs. 1 and 2 print KL(F, f / t), of bare logits; here the teacher comes first and both are
tempered, as the factor t^2 asks for (`literal`: the teacher alone). Losses are means over examples.
Every visit of a phase begins a learning-rate schedule, every model's with a fresh optimiser.
Teachers run in evaluation mode. The independent model is the same in every round.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.algorithms.async_edge import corruption, travel
from kdjax.algorithms.separate import objective
from kdjax.core import clients, losses, snapshots
from kdjax.core.clients import has_data, share, update
from kdjax.core.costs import nbytes
from kdjax.core.env import Env
from kdjax.core.passes import eval_mode
from kdjax.types import (
  Algorithm,
  ClientState,
  ConfigError,
  Feed,
  Method,
  Phase,
  Pos,
  Predict,
  PyTree,
  Step,
  at_least,
)

INITS = ("scratch", "independent", "clone")


class Core(NamedTuple):
  """What the core of every replica keeps beside its model; leaves [K_0, ...]."""

  memory: jax.Array  # f32[K_0, M, n, L], the models that came back in round i in slot i % M
  # f32[K_0, P, L], its weights before round i in slot i % P; (), where none are cloned.
  past: jax.Array | tuple[()]
  correct: jax.Array  # f32[K_0], training examples that it got right in this visit of `distil`
  seen: jax.Array  # f32[K_0], of how many
  before: jax.Array  # f32[K_0], its training accuracy in the round before


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


def stack(clients: tuple, hyper: Hyper) -> tuple:
  """The models that train: the core; the independent one, if `init` says so; n at the edge.

  Raises:
    ConfigError: without edges, for edges that differ, or for clones of another architecture.
  """
  if hyper.init not in INITS:
    raise ConfigError("algo.init", hyper.init, "must be one of " + ", ".join(INITS))
  at_least(1, ensemble=hyper.ensemble)
  core, *edges = [(name, arguments) for n, name, arguments in clients for _ in range(n)]
  if not edges:
    raise ConfigError("clients", clients, "the first is the core: at least one edge must follow")
  if any(edge != edges[0] for edge in edges):
    raise ConfigError("clients", clients, "all but the first are edges and must be alike")
  if hyper.init == "clone" and edges[0] != core:
    hint = "edges get clones of the core: build them alike, or set algo.init to independent"
    raise ConfigError("clients", clients, hint)
  independent = ((1, *edges[0]),) if hyper.init == "independent" else ()
  return ((1, *core), *independent, (hyper.ensemble, *edges[0]))


def make(env: Env, hyper: Hyper) -> Algorithm:
  """Asynchronous edge learning; see the file's docstring. `env.cohorts` are those of `stack`.

  Raises:
    ConfigError: for values that cannot be.
  """
  check(hyper)
  visits = travel.itinerary(
    env, init=hyper.init, arrivals=hyper.arrivals, noisy=hyper.noisy, noise=hyper.noise
  )
  P = 1 + max(lag for _, lag in visits) if hyper.init == "clone" else 0

  def begin(clients):
    if hyper.init == "independent":  # of another seed, even where all clients start alike
      clients = (clients[0], fresh(env, 1, env.keys(1, "independent", 0)), *clients[2:])
    return clients, *first_state(env, hyper.memory, hyper.ensemble, P)

  return Algorithm(begin, cycle(env, hyper, visits), predict(env), prologue(env, hyper))


METHOD = Method(Hyper, make, stack=stack)


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


def passes(
  env: Env,
  name: str,
  step: Step,
  epochs: int,
  g: int,
  owner: Callable[[int, int], int] = lambda round, client: 0,
  args: Callable[[Pos], PyTree] = lambda pos: (),
) -> Phase:
  """A phase of whole epochs of cohort g, which begins a learning-rate schedule at every visit."""
  feed = Feed(private=env.training.batch, kind="epoch", epochs=epochs, cohorts=(g,), owner=owner)
  rate = lambda pos: env.training.lr(pos.i, pos.n)
  return Phase(name, step, feed, None, lr=rate, args=args)


def prologue(env: Env, hyper: Hyper) -> tuple[Phase, ...]:
  """The core trains on its own data, and the independent model where there is one."""
  train = train_step(env, corrupts=False)
  names = ("core training", "independent training")
  if not hyper.core_epochs:
    return ()
  return tuple(
    passes(env, name, train, hyper.core_epochs, g)
    for g, name in enumerate(names[: 2 if hyper.init == "independent" else 1])
  )


def cycle(env: Env, hyper: Hyper, visits: tuple[tuple[int, int], ...]) -> tuple[Phase, ...]:
  """A round; `visits` are (edge, lag), a round each."""
  at = lambda round: visits[round % len(visits)]
  last, model = len(env.cohorts) - 1, nbytes(env.snapshots()[-1])

  def sent(models):
    return lambda pos: {"weights": env.R * model * models} if models else {}

  lag, edge = lambda pos: np.int32(at(pos.round)[1]), lambda pos: np.int32(at(pos.round)[0])
  host = lambda round, client: at(round)[0]
  corrupt = lambda pos: np.float32(hyper.noise if at(pos.round)[0] in hyper.noisy else 0)
  train = train_step(env, corrupts=bool(hyper.noisy))
  dispatch, collect = dispatch_step(env, hyper.init), collect_step(env, hyper)
  cloned = sent(hyper.init != "scratch")
  return (
    Phase("dispatch", dispatch, None, 1, args=lag, sent=cloned),
    passes(env, "edge", train, hyper.edge_epochs, last, host, corrupt),
    Phase("collect", collect, None, 1, args=edge, sent=sent(hyper.ensemble)),
    passes(env, "distil", distil_step(env, hyper), hyper.distil_epochs, 0),
    Phase("watch", watch_step(hyper.flag_above), None, 1, log=True),
  )


def fresh(env: Env, g: int, keys: jax.Array) -> ClientState:
  """New models of cohort g; keys [K_g]."""
  cohort = env.cohorts[g]
  one = lambda key: clients.client(cohort.model, cohort.tx, key, env.task.image, env.dtype, {})
  return jax.vmap(one)(keys)


def first_state(env: Env, M: int, n: int, P: int) -> tuple[tuple, dict]:
  """(local, server) of step 0; P as in `Core`, 0 where nothing is cloned."""
  zeros = lambda *shape: jnp.zeros((*env.ids(0).shape, *shape), env.dtype)
  past = zeros(P, snapshots.length(env)) if P else ()
  core = Core(zeros(M, n, snapshots.length(env)), past, zeros(), zeros(), zeros())
  local = (core, *((),) * (len(env.cohorts) - 1))
  return local, {"holder": jnp.full((), -1, jnp.int32)}  # whose data the teacher learned from


def train_step(env: Env, corrupts: bool) -> Step:
  """`Phase.step` of supervised epochs; if it `corrupts`, batches' labels with chance `now.args`."""
  permuted = jax.vmap(corruption.permuted, (0, None, 0, 0))

  def corrupted(g, half, now):
    keys = env.keys(g, "noise", now.count)
    return half._replace(label=permuted(keys, now.args, half.label, half.mask))

  def step(state, batch, now):
    halves = batch.private
    if corrupts:
      halves = tuple(half and corrupted(g, half, now) for g, half in enumerate(halves))
    active = tuple(half and has_data(half) for half in halves)
    clients, aux = update(env, state.clients, objective, halves, now.lr, active)
    return state._replace(clients=clients), aux

  return step


def dispatch_step(env: Env, init: str) -> Step:
  """`Phase.step` that starts all models at the edge alike; `now.args` is the lag of a clone."""
  last = len(env.cohorts) - 1

  def step(state, batch, now):
    (core, *others), core_id = state.local, env.ids(last) // env.K * env.K
    if init == "scratch":
      models = fresh(env, last, env.common_keys(last, "scratch", now.round))
    elif init == "independent":
      trained = tuple(snapshots.pack(env, client) for client in state.clients[:2])
      (source,) = env.fetch(trained, (core_id + 1,))
      models = travel.unpack(env, last, source)
    else:
      P = core.past.shape[1]
      past = core.past.at[:, now.round % P].set(snapshots.pack(env, state.clients[0]))
      cloned = past[:, jnp.maximum(now.round - now.args, 0) % P]
      (source,) = env.fetch((cloned,), (core_id,))
      models, core = travel.unpack(env, last, source), core._replace(past=past)
    clients = (*state.clients[:last], models)
    return state._replace(clients=clients, local=(core, *others)), ({},) * len(clients)

  return step


def collect_step(env: Env, hyper: Hyper) -> Step:
  """`Phase.step` that brings the models back to the core; `now.args` is the edge."""
  ensemble, memory = hyper.ensemble, hyper.memory

  def step(state, batch, now):
    core, first = state.local[0], env.ids(0) + env.K - ensemble
    trained = tuple(snapshots.pack(env, client) for client in state.clients)
    back = env.fetch(trained, tuple(first + i for i in range(ensemble)))
    full = core.memory.at[:, now.round % memory].set(jnp.stack(back, 1))
    zero = jnp.zeros_like(core.seen)
    local = (core._replace(memory=full, correct=zero, seen=zero), *state.local[1:])
    fresh = jax.vmap(env.cohorts[0].tx.init)(state.clients[0].params)
    clients = (state.clients[0]._replace(opt_state=fresh), *state.clients[1:])
    server = {"holder": now.args}
    return state._replace(clients=clients, local=local, server=server), ({},) * len(clients)

  return step


def distil_step(env: Env, hyper: Hyper) -> Step:
  """`Phase.step` in which the core learns from its memory and its own data (Eq. 2)."""
  model, template = env.cohorts[-1].model, env.snapshots()[-1]
  t = hyper.temperature
  student_t = 1.0 if hyper.literal else t

  def teach(memory, half):
    """f32[M, B, C]: what every slot of one core's memory [M, n, L] says of a batch."""

    def tell(flat):
      client = ClientState(*snapshots.unflatten(flat, template), opt_state=())
      return jax.nn.softmax(eval_mode(model, client, half.image).logits[:, 0] / t)

    said = env.map_clients(tell, memory.reshape(-1, memory.shape[-1]))
    return said.reshape(*memory.shape[:2], *said.shape[1:]).mean(1)

  def distillation(apply, params, d):
    out, model_state = apply(params, d["half"])
    z, label = out.logits[:, 0], d["half"].label
    mean = functools.partial(share, mask=d["half"].mask, total=d["half"].total)
    ce = mean(losses.cross_entropy(z, label))
    kd = t**2 * mean((d["weight"] * losses.kl(d["teacher"], z / student_t)).sum(0))
    correct = mean((z.argmax(-1) == label).astype(z.dtype))
    aux = {"loss": ce + kd, "cross_entropy": ce, "distillation": kd, "train_accuracy": correct}
    return ce + kd, (aux, model_state)

  def step(state, batch, now):
    core, half = state.local[0], batch.private[0]
    filled = (jnp.arange(core.memory.shape[1]) <= now.round).astype(env.dtype)
    weight = filled / filled.sum() if hyper.memory_reduce == "mean" else filled
    weight = jnp.broadcast_to(weight[:, None], (len(half.label), len(weight), 1))
    data = {"half": half, "teacher": env.map_clients(teach, core.memory, half), "weight": weight}
    rest = (None,) * (len(env.cohorts) - 1)
    active = (has_data(half), *rest)
    clients, aux = update(env, state.clients, distillation, (data, *rest), now.lr, active)
    n = half.total.astype(env.dtype)
    core = core._replace(correct=core.correct + n * aux[0]["train_accuracy"], seen=core.seen + n)
    return state._replace(clients=clients, local=(core, *state.local[1:])), aux

  return step


def watch_step(flag_above: float) -> Step:
  """`Phase.step` that measures the rise of training accuracy over the round before."""

  def step(state, batch, now):
    core = state.local[0]
    accuracy = core.correct / jnp.maximum(core.seen, 1)
    jump = jnp.where(now.round == 0, 0, accuracy - core.before)
    flag = jump > flag_above
    core = core._replace(before=accuracy)
    aux = {"train_accuracy": accuracy, "jump": jump, "flag": flag.astype(accuracy.dtype)}
    local = (core, *state.local[1:])
    return state._replace(local=local), (aux, *({},) * (len(local) - 1))

  return step


def predict(env: Env) -> Predict:
  """`Algorithm.predict`: the core, and the mean probabilities of the models at the edge."""

  def say(state, images, g):
    one = lambda client: eval_mode(env.cohorts[g].model, client, images).logits
    said = jax.lax.all_gather(env.map_clients(one, state.clients[g]), "client", tiled=True)
    return said.reshape(env.R, -1, *said.shape[1:])  # [R, models, N, H, C]

  def predict(state, images):
    edge = jax.nn.log_softmax(say(state, images, -1))
    mean = jax.nn.logsumexp(edge, axis=1) - np.log(edge.shape[1])
    return {"core": say(state, images, 0)[:, 0], "edge": mean}

  return predict
