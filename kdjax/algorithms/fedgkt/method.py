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

import flax.linen as nn
import jax
import numpy as np

from kdjax.algorithms.fedgkt import server as servers
from kdjax.algorithms.fedgkt import uploads
from kdjax.algorithms.fedgkt.arrivals import Plan, plan_rounds
from kdjax.algorithms.fedgkt.hyper import Hyper
from kdjax.algorithms.fedgkt.steps import edge_step, fresh_servers, server_step
from kdjax.core.costs import forward_flops
from kdjax.core.env import Env
from kdjax.core.passes import eval_mode
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
    ConfigError: for values that cannot be.
  """
  model, feature = network(env, hyper.server), uploads.feature_at(env, hyper.cut)
  plan = plan_rounds(env, hyper)
  predict, alone = stitched(env, model, hyper.cut)
  return Algorithm(
    lambda clients: (clients, uploads.empty(env, feature), fresh_servers(env, model, feature)),
    cycle(env, hyper, model, feature, plan),
    predict,
    facts=functools.partial(facts, env, hyper, model, feature, plan),
    alone=alone,
  )


METHOD = Method(Hyper, make)


def cycle(
  env: Env, hyper: Hyper, model: nn.Module, feature: jax.ShapeDtypeStruct, plan: Plan
) -> tuple[Phase, ...]:
  """A round: edges train, upload, and the server trains and answers.

  Args:
    env, hyper: as everywhere.
    model: the server's network.
    feature: shape and dtype of one example's feature.
    plan: what the servers do in a round.
  """
  passes = lambda n: Feed(private=env.training.batch, kind="epoch", epochs=n)
  sent, answers = uploads.bytes_sent(env, plan, feature)
  return (
    Phase("edge", edge_step(env, hyper), passes(hyper.edge_epochs), None, lr=env.rate),
    Phase("upload", uploads.step(env, hyper.cut, hyper.keyed), passes(1), None, sent=sent),
    Phase(
      "server",
      server_step(env, hyper, model),
      Feed(server=lambda pos: plan.rows(pos.round, plan.calls(pos.round)[pos.i])),
      lambda round: len(plan.calls(round)),
      lr=env.rate,
      args=lambda pos: (plan.calls(pos.round)[pos.i].train, pos.i == pos.n - 1),
      sent=answers,
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
  served = sum(3 * plan.epochs(t) + 1 for t in range(rounds))
  return {
    "communication": uploads.communication(env, feature, rounds, hyper.edge_epochs),
    "flops": flops(env, model, feature, rounds * (3 * hyper.edge_epochs + 1), served),
  }


def stitched(env: Env, model: nn.Module, cut: str) -> tuple[Predict, Callable]:
  """`Algorithm.predict` and `.alone`: the server's network behind each client's extractor."""

  def both(cohort, network, client, images):
    h, z = uploads.tell(cohort.model, cut, client, images)
    return eval_mode(model, network, h).logits, z

  def alone(g, client, server, images):
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

  return predict, alone


def flops(
  env: Env,
  model: nn.Module,
  feature: jax.ShapeDtypeStruct,
  edge_passes: int,
  server_passes: int,
) -> dict[str, float]:
  """FLOPs of one example's forward pass, and of a run in which everyone always arrives.

  Args:
    env, model, feature: as everywhere here.
    edge_passes, server_passes: forward passes over all data; a training step counts as three,
      itself and a gradient of twice its size.

  Returns:
    {'forward_edge', 'forward_server': of one example; 'edge': of one client's run, its training
    and its uploads; 'server': of one replica's}. Those of the edge are means over clients.
  """
  n = env.task.private_sizes
  forward = np.zeros(env.clients)
  for cohort in env.cohorts:
    forward[list(cohort.ids)] = forward_flops(
      cohort.model, cohort.template, env.task.image, env.dtype
    )
  all_of_them = jax.eval_shape(lambda: fresh_servers(env, model, feature).network)
  one = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), all_of_them)
  served = forward_flops(model, one, feature.shape, feature.dtype)
  return {
    "forward_edge": float(forward.mean()),
    "forward_server": served,
    "edge": float((forward * n).mean() * edge_passes),
    "server": served * int(n.sum()) / env.R * server_passes,
  }


def network(env: Env, server: tuple[str, dict]) -> nn.Module:
  """The server's model, of which BatchNorm sums over all devices.

  Raises:
    ConfigError: where `server` is not (model, model arguments), there is no such model, or it has
      dropout.
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
  return model
