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

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from kdjax.algorithms.fedgkt import server as servers
from kdjax.algorithms.fedgkt import uploads
from kdjax.algorithms.fedgkt.arrivals import Plan, plan_rounds
from kdjax.core import losses
from kdjax.core.clients import has_data, share, update
from kdjax.core.costs import forward_flops
from kdjax.core.env import Env
from kdjax.core.passes import eval_mode
from kdjax.models.build import build_model
from kdjax.types import (
  Algorithm,
  ClientState,
  ConfigError,
  Feed,
  Method,
  Phase,
  Predict,
  Step,
  at_least,
)


class Server(NamedTuple):
  """The server of every replica; leaves [R, ...]."""

  network: ClientState
  plateau: optax.OptState  # of optax.contrib.reduce_on_plateau; `scale` multiplies the rate
  # f32[R, 4]: loss, cross entropy, distillation and examples, over a round's answers.
  sums: jax.Array


METRICS = ("loss", "cross_entropy", "distillation")


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


def make(env: Env, hyper: Hyper) -> Algorithm:
  """FedGKT; see the file's docstring.

  Raises:
    ConfigError: for values that cannot be.
  """
  check(hyper)
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


def fresh_servers(env: Env, model: nn.Module, feature: jax.ShapeDtypeStruct) -> Server:
  """The servers of step 0, with the first cohort's optimiser."""
  network = servers.init(env, model, env.cohorts[0].tx, feature.shape)
  plateau = jax.vmap(optax.contrib.reduce_on_plateau().init)(network.params)
  return Server(network, plateau, jnp.zeros((env.R, 4), env.dtype))


def edge_step(env: Env, hyper: Hyper) -> Step:
  """`Phase.step` of the edge: CE, and alpha KL(server || edge) once it has answered (Eq. 7)."""
  weight = hyper.alpha if hyper.edge_distils else 0.0

  def objective(apply, params, d):
    out, model_state = apply(params, d["half"])
    z, mean = out.logits[:, 0], functools.partial(share, mask=d["half"].mask, total=d["half"].total)
    ce = mean(losses.cross_entropy(z, d["half"].label))
    kd = mean(losses.tempered_kl(d["answer"], z, hyper.temperature))
    loss = ce + d["weight"] * kd
    return loss, (dict(zip(METRICS, (loss, ce, kd), strict=True)), model_state)

  def step(state, batch, now):
    data = []
    for g, (half, memory) in enumerate(zip(batch.private, state.local, strict=True)):
      answer = uploads.answers(memory, uploads.slots(env, hyper.keyed, g, half, now))
      data.append({"half": half, "answer": answer, "weight": weight * memory.answered})
    active = tuple(map(has_data, batch.private))
    clients, aux = update(env, state.clients, objective, tuple(data), now.lr, active)
    return state._replace(clients=clients), aux

  return step


def server_loss(hyper: Hyper) -> Callable[[jax.Array, dict], jax.Array]:
  """(logits f32[S, C], uploads) -> shares f32[3] of the loss (Eq. 6) and of its two parts."""
  distillation, cross_entropy = (1.0, hyper.alpha) if hyper.server_distils else (0.0, 1.0)

  def loss(z, d):
    mean = functools.partial(share, mask=d["mask"], total=d["total"])
    ce = mean(losses.cross_entropy(z, d["label"]))
    kd = mean(losses.tempered_kl(d["logits"], z, hyper.temperature))
    return jnp.stack([distillation * kd + cross_entropy * ce, ce, kd])

  return loss


def server_step(env: Env, hyper: Hyper, model: nn.Module) -> Step:
  """`Phase.step` of the servers: an update on a batch of uploads, or the answers to one.

  Its aux are the batch's losses in training mode, or the mean ones of this round's answers.
  """
  loss, plateau = server_loss(hyper), hyper.plateau
  watch = optax.contrib.reduce_on_plateau(plateau["factor"], max(plateau["patience"], 1)).update

  def objective(apply, params, d):
    out, model_state = apply(params, d["feature"], d["mask"])
    scores = loss(out.logits[:, 0], d)
    return scores[0], ({"scores": scores}, model_state)

  def step(state, batch, now):
    (train, last), rows, old = now.args, batch.server, state.server
    sent = servers.collect(env, tuple(m.sent for m in state.local), rows)
    n = rows.mask.sum(1)
    d = sent | {"mask": servers.part(env, rows.mask), "total": n}

    def learn():
      lr, tx = now.lr * old.plateau.scale, env.cohorts[0].tx
      network, aux = servers.update(env, model, tx, old.network, objective, d, lr, n > 0)
      return network, aux["scores"], jnp.zeros_like(d["logits"])

    def answer():
      z = servers.logits(env, model, old.network, d["feature"])
      return old.network, jax.lax.psum(jax.vmap(loss)(z, d), servers.AXES), z

    network, scores, z = jax.lax.cond(train, learn, answer)
    answered = rows._replace(mask=rows.mask * ~train)
    local = uploads.answer(env, state.local, answered, servers.whole(z))
    told = jnp.concatenate([scores * n[:, None], n[:, None]], 1)
    sums = jnp.where(now.i == 0, 0, old.sums) + jnp.where(train, 0, told).astype(old.sums.dtype)
    means = sums[:, :3] / jnp.maximum(sums[:, 3:], 1)
    watched = jax.vmap(lambda s, v: watch((), s, value=v)[1])(old.plateau, means[:, 1])
    due = last & (sums[:, 3] > 0) & (plateau["patience"] > 0)
    watched = jax.tree.map(lambda new, x: jnp.where(due, new, x), watched, old.plateau)
    state = state._replace(local=local, server=Server(network, watched, sums))
    aux = jnp.where(train, scores, means)
    return state, dict(zip(METRICS, aux.T, strict=True))

  return step


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
