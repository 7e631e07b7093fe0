"""FedGKT: small networks on the edge and a large one on a server that learns from their features.

He, Annavaram and Avestimehr: Group Knowledge Transfer: Federated Learning of Large CNNs at the
Edge, NeurIPS 2020, https://arxiv.org/abs/2007.14513, Algorithm 1, with the details of the code:

  edge    each client trains on its own data: CE + alpha T^2 KL(server || edge)            (Eq. 7)
  upload  each client evaluates all of its data once: features, logits and labels for the server
  server  learns from the uploads: T^2 KL(edge || server) + alpha CE (Eq. 6); answers with logits

A client trains with CE alone until the server has answered it. Features and logits are kept by row
of the client's own list. The model that is tested is the server's behind the client's extractor.

Departures: the server answers in a pass of its own, in evaluation mode, after its last epoch (the
code: in training mode, before each step; the paper: after it). No incomplete batch is dropped.
Logits travel both ways, as in the code, even where one side does not learn from them. The learning
rate falls on a plateau of the server's cross entropy on the uploads (the code watches test
accuracy, which must not steer training), after `patience` rounds without improvement, where
PyTorch waits for one more.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import numpy as np
import optax

from kdjax import optim
from kdjax.algorithms.fedgkt import drift, uploads
from kdjax.algorithms.fedgkt import server as servers
from kdjax.algorithms.fedgkt.arrivals import Plan, plan_rounds
from kdjax.algorithms.fedgkt.hyper import Hyper
from kdjax.algorithms.fedgkt.steps import edge_step, fresh_servers, server_step
from kdjax.algorithms.separate import epoch_phase
from kdjax.core.costs import client_flops, forward_flops
from kdjax.core.env import Env
from kdjax.core.passes import eval_mode, offers
from kdjax.data.streams import examples
from kdjax.models.build import build_model
from kdjax.types import (
  Algorithm,
  ConfigError,
  Feed,
  Method,
  Phase,
  Predict,
)


def make(env: Env, hyper: Hyper) -> Algorithm:
  """FedGKT; see the file's docstring.

  Raises:
    ConfigError: for invalid values.
  """
  model, feature = network(env, hyper.server), uploads.feature_at(env, hyper.cut)
  plan = plan_rounds(env, hyper)
  tx, rate = optim.make_under("algo.server_optim", hyper.server_optim)
  predict, client_logits = stitched(env, model, hyper.cut)

  def begin(clients):
    memories = uploads.empty(env, feature, holds=hyper.trains_on == "all")
    return clients, memories, fresh_servers(env, model, tx, feature)

  return Algorithm(
    begin,
    cycle(env, hyper, model, feature, plan, tx, rate),
    predict,
    facts=functools.partial(facts, env, hyper, model, feature, plan),
    client_logits=client_logits,
  )


METHOD = Method(Hyper, make)


def cycle(
  env: Env,
  hyper: Hyper,
  model: nn.Module,
  feature: jax.ShapeDtypeStruct,
  plan: Plan,
  tx: optax.GradientTransformation,
  rate: optim.Rate,
) -> tuple[Phase, ...]:
  """A round: edges train, their drift is measured, they upload, and the server trains and answers.

  Args:
    env: Env.
    hyper: Hyper.
    model: the server's network.
    feature: shape and dtype of one example's feature.
    plan: the servers' calls in a round.
    tx: the server's optimiser.
    rate: (count, total) -> the server's learning rate.
  """

  def client_phase(name, step, epochs, crop):
    crop = crop if hyper.keyed else None
    return epoch_phase(name, step, private=env.training.batch, epochs=epochs, crop=crop)

  # An edge learns from the answers to its last upload that arrived, so it sees the same crops.
  uploaded_crop = lambda round, client: round + 1
  answered_crop = lambda round, client: plan.attendance.last_arrival(round, client) + 1
  upload_bytes, answer_bytes = uploads.bytes_sent(env, plan, feature)
  upload = uploads.step(env, hyper.cut, hyper.keyed)
  return (
    client_phase("edge", edge_step(env, hyper), hyper.edge_epochs, answered_crop),
    Phase("drift", drift.step(env, hyper.cut), None, 1, log=True),
    client_phase("upload", upload, 1, uploaded_crop)._replace(bytes_sent=upload_bytes),
    Phase(
      "server",
      server_step(env, hyper, model, tx, feature.shape),
      Feed(server=lambda pos: plan.rows(pos.round, plan.calls(pos.round)[pos.visit_call])),
      lambda round: len(plan.calls(round)),
      lr=lambda pos: rate(pos.phase_call, pos.phase_calls),
      args=plan.turn,
      bytes_sent=answer_bytes,
      log=True,
    ),
  )


def facts(
  env: Env,
  hyper: Hyper,
  model: nn.Module,
  feature: jax.ShapeDtypeStruct,
  plan: Plan,
  rounds: int,
) -> dict[str, dict]:
  """`Algorithm.facts`: bytes by the paper's formulas, and FLOPs of edges and server."""
  done = work(env, hyper, plan, rounds)
  trained = int(done.trained.sum())
  return {
    "communication": uploads.communication(
      env, feature, trained, done.upload_rounds, done.answer_rounds
    ),
    "flops": flops(env, model, feature, 3 * done.trained + done.uploaded, done.served),
  }


class Work(NamedTuple):
  """The work of a run in examples of all replicas, and the rounds with an exchange."""

  trained: np.ndarray  # i64[R*K], examples of the edges' training steps
  uploaded: np.ndarray  # i64[R*K], examples of their passes for the uploads
  served: int  # the servers' forward passes, as `Plan.examples` counts them
  upload_rounds: int
  answer_rounds: int


def work(env: Env, hyper: Hyper, plan: Plan, rounds: int) -> Work:
  """The Work of a run; `steps` of the config may cut its last round short."""
  sizes, batch = env.task.private_sizes, env.training.batch
  edge, upload = (Feed(private=batch, kind="epoch", epochs=n) for n in (hyper.edge_epochs, 1))
  epoch_calls = -(-int(sizes.max()) // batch)
  seen = lambda feed, calls: np.array([examples(feed, batch, n, calls) for n in sizes])
  left = env.training.steps or np.iinfo(np.int64).max
  total = Work(np.zeros_like(sizes, int), np.zeros_like(sizes, int), 0, 0, 0)
  for round in range(rounds):
    calls = plan.calls(round)
    planned = np.array([edge.epochs * epoch_calls, epoch_calls, len(calls)])
    before = planned.cumsum() - planned
    edge_calls, upload_calls, server_calls = np.clip(left - before, 0, planned).tolist()
    left -= int(planned.sum())
    total = Work(
      trained=total.trained + seen(edge, edge_calls),
      uploaded=total.uploaded + seen(upload, upload_calls),
      served=total.served + plan.examples(round, server_calls),
      upload_rounds=total.upload_rounds + (upload_calls > 0),
      answer_rounds=total.answer_rounds + any(call.answers for call in calls[:server_calls]),
    )
  return total


def stitched(env: Env, model: nn.Module, cut: str) -> tuple[Predict, Callable]:
  """(`Algorithm.predict`, `.client_logits`): the server's network behind a client's extractor."""

  def server_and_edge(cohort, network, client, images):
    feature, edge_logits = uploads.tell(cohort.model, cut, client, images)
    return eval_mode(model, network, feature).logits, edge_logits

  def client_logits(g, client, server, images):
    return server_and_edge(env.cohorts[g], server.network, client, images)[0]

  def predict(state, images):
    def of_client(cohort, client, r):
      network = jax.tree.map(lambda x: x[r], state.server.network)
      return server_and_edge(cohort, network, client, images)

    pairs = [
      env.map_clients(functools.partial(of_client, cohort), client, env.ids(g) // env.K)
      for g, (cohort, client) in enumerate(zip(env.cohorts, state.clients, strict=True))
    ]
    server_logits, edge_logits = zip(*pairs, strict=True)
    return {"": server_logits, "edge": edge_logits}

  return predict, client_logits


def flops(
  env: Env,
  model: nn.Module,
  feature: jax.ShapeDtypeStruct,
  edge_examples: np.ndarray,
  server_examples: int,
) -> dict[str, float]:
  """FLOPs of one example's forward pass, and of a run.

  Args:
    env: Env.
    model: the server's network.
    feature: shape and dtype of one example's feature.
    edge_examples: i64[R*K], each client's forward passes, counted as in `costs.client_flops`.
    server_examples: examples that pass forward through all replicas' servers, counted likewise.

  Returns:
    {'forward_edge', 'edge': `costs.client_flops`, uploads included; 'forward_server': of one
    example; 'server': of one replica's run}.
  """
  of_replicas = jax.eval_shape(lambda: servers.init(env, model, optax.identity(), feature.shape))
  of_one = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), of_replicas)
  forward = forward_flops(model, of_one, feature.shape, feature.dtype)
  edges = client_flops(env, edge_examples)
  return edges | {"forward_server": forward, "server": forward * server_examples / env.R}


def network(env: Env, server: tuple[str, dict]) -> nn.Module:
  """The server's model: BatchNorm sums over all devices, and `env.scan` makes blocks a loop.

  Raises:
    ConfigError: where `server` is not (model, model arguments), there is no such model, it has
      dropout, or only one of edges and server is in float64.
  """
  try:
    name, arguments = server
    model = build_model(name, classes=env.task.classes, heads=1, axes=servers.AXES, **arguments)
  except ConfigError as error:
    raise ConfigError("algo.server", error.value, error.hint) from None
  except (TypeError, ValueError):
    raise ConfigError("algo.server", server, "must be (model, model arguments)") from None
  if getattr(model, "dropout", 0) > 0:
    raise ConfigError("algo.server", server, "must have dropout 0: only clients draw it")
  if (arguments.get("dtype") == "float64") != (env.dtype == "float64"):
    hint = f"must have dtype float64 if and only if the edges have it: theirs is {env.dtype}"
    raise ConfigError("algo.server", server, hint)
  return model.clone(scan=env.scan) if offers(model, "scan") else model
