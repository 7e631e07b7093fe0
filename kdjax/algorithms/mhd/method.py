"""Multi-Headed Distillation (MHD).

Zhmoginov, Sandler, Miller, Kristiansen, Vladymyrov: Decentralized Learning with Multi-Headed
Distillation, CVPR 2023, https://arxiv.org/abs/2211.15774. Client i minimises (Eq. 1)

  L_i = CE(h_i, y) on private data
      + nu_emb  sum_{j in e(i)} rho(||xi_hat_i - xi_hat_j||)            on public data, Eq. 2
      + nu_aux  sum_{k=1..m} CE(target_k, h_i^{aux,k})                  on public data, Eqs. 3 to 5

Head k learns from heads k - 1: target_k is the prediction at level k - 1 (level 0 is the main head)
of the most confident among the teachers e(i) and the client itself, example by example (Eq. 4).
Every target is behind a stop-gradient, the client's own included; the main head learns from private
labels alone, while the auxiliary losses also train the backbone.

Exchange 'pool' (Section 4.1): teachers are `teachers` random snapshots from the student's pool;
one slot is replaced every S_P steps. Exchange 'fresh' (Algorithm 1): all clients' current
predictions on one common public batch, computed once before any update. Exchange 'published', a
variant of the pool that costs K forward passes for any Delta: every client predicts one common
public batch with a random past snapshot of its own.

Departures and readings: Lambda is `max`, not the paper's `arg max`. rho is z^2 unless the config
says otherwise. The client itself comes last, so a tie goes to the teacher. A client without
teachers takes no distillation loss. The paper specifies neither the first content of a pool
(`pool_start`) nor the mode in which the candidates of Eq. 4 predict (`speak_in`).
"""

from collections.abc import Callable
from typing import NamedTuple

import flax
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
from jaxtyping import Bool, Float, Int

from kdjax.algorithms.mhd import broadcast, losses, peer, pool
from kdjax.algorithms.mhd.exchange import Exchange, PredictFn, in_mode
from kdjax.algorithms.mhd.hyper import Hyper, check
from kdjax.algorithms.separate import cross_entropy
from kdjax.core import health
from kdjax.core.arrays import Array
from kdjax.core.clients import select_rows, share, update
from kdjax.core.env import Env, sharded
from kdjax.core.random import example_keys
from kdjax.models.heads import head_names
from kdjax.peers import Mail
from kdjax.types import (
  Algorithm,
  Apply,
  Batch,
  ConfigError,
  Examples,
  Feed,
  Method,
  Objective,
  Phase,
  PyTree,
  Step,
  TrainState,
)


def heads(hyper: Hyper) -> tuple[str, ...]:
  """The names of the model's heads: main, aux1 .. aux_m."""
  return head_names(1 + hyper.aux_heads)


def make(env: Env, hyper: Hyper) -> Algorithm:
  """MHD; see the file's docstring.

  Raises:
    ConfigError: for a name that does not exist or invalid sizes.
  """
  check(env, hyper)
  exchange = make_exchange(env, hyper)
  init = lambda clients: (clients, exchange.init(clients), ())
  return Algorithm(
    init,
    cycle(env, hyper, exchange),
    env.predict,
    bytes_at_start=exchange.bytes_at_start,
    uses_graph=True,
  )


def make_peer(env: Env, hyper: Hyper, mail: Mail) -> Algorithm:
  """MHD for clients that train apart; see peer.py.

  Raises:
    ConfigError: see `make`; also for the fresh exchange.
  """
  check(env, hyper)
  exchanges = {"pool": peer.pools, "published": peer.published}
  if hyper.exchange not in exchanges:
    hint = "clients that train apart have no teachers' present predictions: use pool or published"
    raise ConfigError("algo.exchange", hyper.exchange, hint)
  exchange = exchanges[hyper.exchange](env, predictor(hyper), hyper, mail)
  init = lambda clients: (env.own(clients), exchange.init(clients), exchange.server())
  return Algorithm(init, cycle(env, hyper, exchange), env.predict, uses_graph=True)


def cycle(env: Env, hyper: Hyper, exchange: Exchange) -> tuple[Phase, ...]:
  """The phases of a round: receive, train, refresh; an exchange may lack the first or the last."""
  feed = Feed(private=env.training.batch, public=env.training.public_batch, common=exchange.common)
  train = Phase(
    "train",
    train_step(env, hyper, exchange),
    feed,
    exchange.steps,
    args=exchange.args,
    bytes_sent=exchange.bytes_sent,
  )
  return tuple(p for p in (exchange.receive, train, exchange.refresh) if p)


METHOD = Method(Hyper, make, heads, make_peer=make_peer)


def predictor(hyper: Hyper) -> PredictFn:
  """The PredictFn of a config; parts that no loss uses are neither computed nor sent."""
  m = hyper.aux_heads if hyper.predicts else 0

  def predict(out):
    embedding = out.embedding if hyper.embeds else out.embedding[..., :0]
    return losses.predictions(out.logits, m), embedding

  return predict


def make_exchange(env: Env, hyper: Hyper) -> Exchange:
  """The Exchange of `hyper.exchange`."""
  predict_fn = predictor(hyper)
  if hyper.exchange == "pool":
    return pool.exchange(env, predict_fn, hyper)
  if hyper.exchange == "published":
    return broadcast.published(env, predict_fn, hyper)
  one_pass = hyper.speak_in == "training" or speaks_as_it_learns(env)
  one_pass = one_pass and env.hostile.kind == "none"  # a falsified model needs a pass of its own
  return broadcast.fresh(env, predict_fn, hyper, one_pass=one_pass)


def speaks_as_it_learns(env: Env) -> bool:
  """Whether training and evaluation passes are equal: no network has BatchNorm or dropout."""
  image = jax.ShapeDtypeStruct((1, *env.task.image), env.dtype)
  mask = jax.ShapeDtypeStruct((1,), jnp.float32)

  def differs(cohort):
    client = cohort.template
    if jax.tree.leaves(client.model_state):
      return True
    train = lambda c, x, mask: cohort.model.apply({"params": c.params}, x, train=True, mask=mask)
    try:
      jax.eval_shape(sharded(env, train, P(), P()), client, image, mask)
    except flax.errors.InvalidRngError:  # the network draws random numbers
      return True
    return False

  return not any(map(differs, env.cohorts))


class StepData(NamedTuple):
  """The data of one client's training step."""

  private: Examples
  public: Examples
  teachers: PyTree  # the client's part of `exchange.prepare`'s result
  own: jax.Array | None  # f32[U, H, C], see `own_logits`
  noise: jax.Array  # a key


def objective(hyper: Hyper, exchange: Exchange) -> Objective:
  """L_i of Eq. 1 as an objective for `core.clients.update`, with StepData as its data."""

  def loss(apply, params, d):
    ce, model_state = cross_entropy(apply, params, d.private)
    total, aux = ce, {"cross_entropy": ce}
    if hyper.predicts or hyper.embeds:
      distilled, more, mixed = distil(hyper, exchange, apply, params, d, model_state)
      total, aux = total + distilled, aux | more
      if hyper.public_statistics:
        model_state = mixed
    return total, (aux | {"loss": total}, model_state)

  return loss


def distil(
  hyper: Hyper,
  exchange: Exchange,
  apply: Apply,
  params: PyTree,
  d: StepData,
  statistics: PyTree,
) -> tuple[jax.Array | float, dict[str, jax.Array], PyTree]:
  """The distillation terms of Eq. 1 on the public half: (share of the loss, aux, model_state)."""
  half = d.public
  out, model_state = exchange.student_pass(apply, params, statistics, d.teachers, half)
  p, xi, valid, refused = valid_predictions(*exchange.teacher_predictions(d.teachers, half))
  taught = half.mask * valid.any(0)  # a client without teachers takes no distillation loss
  loss: jax.Array | float = 0.0
  aux = {"refused": jnp.sum(refused * half.mask)}
  if hyper.predicts:
    each = _aux_losses(hyper, out.logits, p, valid, d.noise, d.own)
    for k in range(hyper.aux_heads):
      aux[f"aux{k + 1}"] = share(each[:, k], taught, half.total)
      loss += hyper.nu_aux * aux[f"aux{k + 1}"]
  if hyper.embeds:
    distance = losses.embedding_loss(out.embedding, xi, valid, rho=hyper.rho)
    aux["embedding"] = share(distance, taught, half.total)
    loss += hyper.nu_emb * aux["embedding"]
  return loss, aux, model_state


def valid_predictions(
  p: Float[Array, "D U m C"], xi: Float[Array, "D U F"], valid: Bool[Array, " D"]
) -> tuple[jax.Array, jax.Array, Bool[Array, "D U"], Int[Array, " U"]]:
  """Replaces invalid predictions of the teachers by zeros.

  Args:
    p: f32[D, U, m, C], the teachers' probabilities.
    xi: f32[D, U, F], their embeddings.
    valid: bool[D], whether each teacher exists.

  Returns:
    (p, xi, whether each prediction is valid bool[D, U], refused predictions per example i32[U]).
  """
  # The heads read the embedding, so their probabilities are finite only where it is finite.
  fine = health.distributions(p).all(-1) if p.shape[2] else health.finite_rows(xi)
  taken = valid[:, None] & fine
  p, xi = select_rows(taken, (p, xi), (jnp.zeros_like(p), jnp.zeros_like(xi)))
  return p, xi, taken, jnp.sum(valid[:, None] & ~fine, axis=0)


def _aux_losses(hyper, logits, p, valid, key, own):
  """`losses.aux_losses` with these hyper-parameters; its noise is keyed by example."""
  keys = example_keys(key, len(logits))
  shape = (hyper.teachers + 1, hyper.aux_heads)
  noise = jax.vmap(lambda k: jax.random.gumbel(k, shape), out_axes=1)(keys)
  return losses.aux_losses(
    logits,
    p,
    valid,
    noise,
    target=hyper.target,
    include_self=hyper.include_self,
    confidence=hyper.confidence,
    skip_confident=hyper.skip_confident,
    own=own,
  )


def own_logits(env: Env, hyper: Hyper) -> Callable[[TrainState, Batch], tuple]:
  """(state, batch) -> over cohorts, the clients' logits f32[K_g, U, H, C] as candidates of Eq. 4.

  None in place of logits: those of the training pass serve, without a pass of their own.
  """
  candidate = hyper.include_self and hyper.target != "all"
  needed = hyper.predicts and (candidate or hyper.skip_confident)
  if hyper.speak_in != "evaluation" or not needed or speaks_as_it_learns(env):
    return lambda state, batch: (None,) * len(env.cohorts)

  def of_cohort(cohort, client, half):
    of_client = lambda client, half: in_mode(hyper.speak_in, cohort.model, client, half).logits
    return env.map_clients(of_client, client, half)

  def of_all(state, batch):
    return tuple(map(of_cohort, env.cohorts, state.clients, batch.public))

  return of_all


def train_step(env: Env, hyper: Hyper, exchange: Exchange) -> Step:
  """`Phase.step`: each client gets its teachers' predictions and learns from both halves."""
  loss = objective(hyper, exchange)
  logits_of = own_logits(env, hyper)

  def step(state, batch, now):
    keys = [env.keys(g, "target", now.phase_call) for g in range(len(env.cohorts))]
    teachers = exchange.prepare(state, batch, now)
    own = logits_of(state, batch)
    data = tuple(map(StepData, batch.private, batch.public, teachers, own, keys))
    clients, aux = update(env, state.clients, loss, data, now.lr)
    return state._replace(clients=clients), aux

  return step
