"""FedGKT: small networks on the edge and a large one on a server that learns from their features.

He, Annavaram and Avestimehr: Group Knowledge Transfer: Federated Learning of Large CNNs at the
Edge, NeurIPS 2020, https://arxiv.org/abs/2007.14513, Algorithm 1, with the details of the code:

  edge    everyone trains on its own data: CE + alpha T^2 KL(server || edge)               (Eq. 7)
  upload  everyone evaluates all of its data once: features, logits and labels for the server
  server  learns from the uploads: T^2 KL(edge || server) + alpha CE (Eq. 6); answers with logits

A client that has not heard the server yet trains with CE alone. Features and logits are kept by row
of the client's own list. The model that is tested is the server's behind the client's extractor.

Departures: the server answers in a pass of its own, in evaluation mode, after its last epoch (the
code: in training mode, before each step; the paper: after it); no incomplete batch is dropped;
logits travel both ways, as in the code, even where one side does not learn from them; the
learning rate falls on a plateau of the server's cross entropy on the uploads (the code watches test
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
    env, hyper: as everywhere.
    model: the server's network.
    feature: shape and dtype of one example's feature.
    plan: what the servers do in a round.
    tx, rate: the server's optimiser, and (count, total) -> its learning rate.
  """

  def passes(n, crop):
    feed = Feed(private=env.training.batch, kind="epoch", epochs=n)
    return feed._replace(crop=crop) if hyper.keyed else feed

  # An edge learns from what was answered to its last upload that arrived: from the same crops.
  uploaded, answered = lambda t, k: t + 1, lambda t, k: plan.who.heard(t, k) + 1
  sent, answers = uploads.bytes_sent(env, plan, feature)
  return (
    Phase("edge", edge_step(env, hyper), passes(hyper.edge_epochs, answered), None),
    Phase("drift", drift.step(env, hyper.cut), None, 1, log=True),
    Phase(
      "upload",
      uploads.step(env, hyper.cut, hyper.keyed),
      passes(1, uploaded),
      None,
      bytes_sent=sent,
    ),
    Phase(
      "server",
      server_step(env, hyper, model, tx, feature.shape),
      Feed(server=lambda pos: plan.rows(pos.round, plan.calls(pos.round)[pos.visit_call])),
      lambda round: len(plan.calls(round)),
      lr=lambda pos: rate(pos.phase_call, pos.phase_calls),
      args=plan.turn,
      bytes_sent=answers,
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
  """`Algorithm.facts`: the paper's formulas for bytes, and FLOPs of edges and server."""
  done = work(env, hyper, plan, rounds)
  learnt = int(done.learnt.sum())
  return {
    "communication": uploads.communication(
      env, feature, learnt, done.upload_rounds, done.answer_rounds
    ),
    "flops": flops(env, model, feature, 3 * done.learnt + done.uploaded, done.served),
  }


class Work(NamedTuple):
  """What a run does, in examples of all replicas; and the rounds in which clients exchange them."""

  learnt: np.ndarray  # i64[R*K], of the edges' training steps
  uploaded: np.ndarray  # i64[R*K], of their passes for the uploads
  served: int  # the servers' forward passes, as `Plan.examples` counts them
  upload_rounds: int
  answer_rounds: int


def work(env: Env, hyper: Hyper, plan: Plan, rounds: int) -> Work:
  """The Work of a run; its last round is perhaps cut short by `steps` of the config."""
  sizes, batch = env.task.private_sizes, env.training.batch
  edge, upload = (Feed(private=batch, kind="epoch", epochs=n) for n in (hyper.edge_epochs, 1))
  epoch = -(-int(sizes.max()) // batch)
  seen = lambda feed, calls: np.array([examples(feed, batch, n, calls) for n in sizes])
  left = env.training.steps or np.iinfo(np.int64).max
  total = Work(np.zeros_like(sizes, int), np.zeros_like(sizes, int), 0, 0, 0)
  for round in range(rounds):
    calls = plan.calls(round)
    whole = np.array([edge.epochs * epoch, epoch, len(calls)])
    learning, uploading, serving = np.clip(left - (whole.cumsum() - whole), 0, whole).tolist()
    left -= int(whole.sum())
    total = Work(
      learnt=total.learnt + seen(edge, learning),
      uploaded=total.uploaded + seen(upload, uploading),
      served=total.served + plan.examples(round, serving),
      upload_rounds=total.upload_rounds + (uploading > 0),
      answer_rounds=total.answer_rounds + any(call.answers for call in calls[:serving]),
    )
  return total


def stitched(env: Env, model: nn.Module, cut: str) -> tuple[Predict, Callable]:
  """(`Algorithm.predict`, `.client_logits`): the server's network behind a client's extractor."""

  def both(cohort, network, client, images):
    h, z = uploads.tell(cohort.model, cut, client, images)
    return eval_mode(model, network, h).logits, z

  def client_logits(g, client, server, images):
    return both(env.cohorts[g], server.network, client, images)[0]

  def predict(state, images):
    def one(cohort, client, r):
      network = jax.tree.map(lambda x: x[r], state.server.network)
      return both(cohort, network, client, images)

    said = [
      env.map_clients(functools.partial(one, cohort), client, env.ids(g) // env.K)
      for g, (cohort, client) in enumerate(zip(env.cohorts, state.clients, strict=True))
    ]
    return dict(zip(("", "edge"), zip(*said, strict=True), strict=True))

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
    env, model, feature: as everywhere here.
    edge_examples: i64[R*K], each client's forward passes, counted as in `costs.client_flops`.
    server_examples: forward passes of all replicas' servers, so counted.

  Returns:
    {'forward_edge', 'edge': `costs.client_flops`, uploads included; 'forward_server': of one
    example; 'server': of one replica's run}.
  """
  all_of_them = jax.eval_shape(lambda: servers.init(env, model, optax.identity(), feature.shape))
  one = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), all_of_them)
  forward = forward_flops(model, one, feature.shape, feature.dtype)
  edges = client_flops(env, edge_examples)
  return edges | {"forward_server": forward, "server": forward * server_examples / env.R}


def network(env: Env, server: tuple[str, dict]) -> nn.Module:
  """The server's model: BatchNorm sums over all devices, blocks are a loop as `env.scan` says.

  Raises:
    ConfigError: where `server` is not (model, model arguments), there is no such model, it has
      dropout, or edges or server alone are in float64.
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
