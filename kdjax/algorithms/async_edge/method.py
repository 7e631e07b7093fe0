"""Asynchronous edge learning: a core learns from models that it sends to one edge after another.

Lee, Yoo and Kwak: Asynchronous Edge Learning using Cloned Knowledge Distillation, 2020,
https://arxiv.org/abs/2010.10338v1, Section 3 and Algorithm 1. `config.clients` lists the holders of
data: the first is the core, all others are edges. The core trains on its own data. Then each round
has these phases:

  dispatch  n equal models start at an edge: clones of the core, or another start by `init`
  edge      they train on the edge's data, each in a batch order of its own       (L_edge, Eq. 1)
  collect   they enter the core's memory, which holds the models of the last M rounds
  distil    the core, on its own data: CE + sum over memory of t^2 KL(teacher || core)    (Eq. 2)
  watch     measures a jump of the core's training accuracy, which a corrupted teacher may cause

A round's teacher is the mean of its n models' tempered probabilities. The variants of Fig. 5:

  init          n = 1, M = 1   n > 1, M = 1   n = 1, M > 1   n > 1, M > 1
  scratch       IsPP
  independent   IPP            IEP            IPM
  clone         CPP            CEP            CPM            CEM

Readings: Eqs. 1 and 2 print KL(F, f / t), of bare logits. Here the teacher comes first and both are
tempered, which the factor t^2 requires (`literal`: only the teacher is). Losses are means over
examples. Every visit of a phase starts a learning-rate schedule and a fresh optimiser. Teachers run
in evaluation mode. The independent model is the same in every round. The length of a visit is a
number of epochs; models may rest before its end (stopping.py).
"""

from collections.abc import Callable

import numpy as np

from kdjax.algorithms.async_edge import travel
from kdjax.algorithms.async_edge.hyper import Hyper
from kdjax.algorithms.async_edge.steps import (
  EdgeArgs,
  collect_step,
  dispatch_step,
  distil_step,
  edge_step,
  first_state,
  fresh,
  watch_step,
)
from kdjax.algorithms.async_edge.tested import predict
from kdjax.algorithms.separate import epoch_phase, supervised_step
from kdjax.core.costs import nbytes
from kdjax.core.env import Env
from kdjax.types import (
  Algorithm,
  ConfigError,
  Method,
  Phase,
  Pos,
  PyTree,
  Step,
)


def stack(clients: tuple, hyper: Hyper) -> tuple:
  """The models that train: the core, the independent model if `init` needs it, and n at the edge.

  Raises:
    ConfigError: without edges, for edges that differ, or for clones of another architecture.
  """
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
    ConfigError: for invalid values.
  """
  visits = travel.itinerary(
    env, init=hyper.init, arrivals=hyper.arrivals, noisy=hyper.noisy, noise=hyper.noise
  )
  P = 1 + max(lag for _, lag in visits) if hyper.init == "clone" else 0

  def begin(clients):
    if hyper.init == "independent":  # its own first weights, even where all clients start alike
      clients = (clients[0], fresh(env, 1, env.keys(1, "independent", 0)), *clients[2:])
    return clients, *first_state(env, hyper, P)

  entries = predict(env, track=hyper.track)
  return Algorithm(begin, cycle(env, hyper, visits), entries, prologue(env, hyper))


METHOD = Method(Hyper, make, stack=stack, travels=True)


def visit_phase(
  env: Env,
  name: str,
  step: Step,
  epochs: int,
  g: int,
  owner: Callable[[int, int], int] = lambda round, client: 0,
  args: Callable[[Pos], PyTree] = lambda pos: (),
) -> Phase:
  """A phase of whole epochs of cohort g that starts a learning-rate schedule at every visit."""
  rate = lambda pos: env.training.lr(pos.visit_call, pos.visit_calls)
  data = dict(private=env.training.batch, epochs=epochs, cohorts=(g,), owner=owner)
  return epoch_phase(name, step, **data)._replace(lr=rate, args=args)


def prologue(env: Env, hyper: Hyper) -> tuple[Phase, ...]:
  """The core trains on its own data, and so does the independent model where there is one."""
  train = supervised_step(env)
  names = ("core training", "independent training")
  if not hyper.core_epochs:
    return ()
  return tuple(
    visit_phase(env, name, train, hyper.core_epochs, g)
    for g, name in enumerate(names[: 2 if hyper.init == "independent" else 1])
  )


def cycle(env: Env, hyper: Hyper, visits: tuple[tuple[int, int], ...]) -> tuple[Phase, ...]:
  """The phases of a round; `visits` holds the (edge, lag) of each round."""
  last = len(env.cohorts) - 1
  model_bytes = nbytes(env.snapshots()[-1])
  sizes = np.reshape(env.task.private_sizes, (env.R, -1))
  batches = -(-sizes // env.training.batch)  # of a pass, by replica and holder

  def edge_at(round):
    return visits[round % len(visits)][0]

  def lag_at(round):
    return visits[round % len(visits)][1]

  def bytes_sent(models):
    return lambda pos: {"weights": env.R * model_bytes * models} if models else {}

  def ends_pass(pos, holder=0):
    return (pos.visit_call + 1) % batches[:, holder] == 0

  def edge_args(pos):
    edge = edge_at(pos.round)
    noise = np.float32(hyper.noise if edge in hyper.noisy else 0)
    return EdgeArgs(ends_pass(pos, edge), np.int32(edge), noise)

  return (
    Phase(
      "dispatch",
      dispatch_step(env, hyper.init),
      None,
      1,
      args=lambda pos: np.int32(lag_at(pos.round)),
      bytes_sent=bytes_sent(0 if hyper.init == "scratch" else 1),
    ),
    visit_phase(
      env,
      "edge",
      edge_step(env, hyper),
      hyper.edge_epochs,
      last,
      owner=lambda round, client: edge_at(round),
      args=edge_args,
    ),
    Phase(
      "collect",
      collect_step(env, hyper),
      None,
      1,
      args=lambda pos: np.int32(edge_at(pos.round)),
      bytes_sent=bytes_sent(hyper.ensemble),
    ),
    visit_phase(env, "distil", distil_step(env, hyper), hyper.distil_epochs, 0, args=ends_pass),
    Phase("watch", watch_step(hyper.flag_above), None, 1, log=True),
  )
