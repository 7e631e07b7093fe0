"""Multi-Headed Distillation (MHD).

Zhmoginov, Sandler, Miller, Kristiansen, Vladymyrov: Decentralized Learning with Multi-Headed
Distillation, CVPR 2023, https://arxiv.org/abs/2211.15774. Client i minimises (Eq. 1)

  L_i = CE(h_i, y) on private data
      + nu_emb  sum_{j in e(i)} rho(||xi_hat_i - xi_hat_j||)            on public data, Eq. 2
      + nu_aux  sum_{k=1..m} CE(target_k, h_i^{aux,k})                  on public data, Eqs. 3 to 5

Head k learns from heads k - 1: target_k is the prediction at level k - 1 (level 0 is the main head)
of whichever of the teachers e(i) and the client itself is most confident about the sample (Eq. 4).
Every target is behind a stop-gradient, the client's own included; the main head learns from private
labels alone, while the auxiliary losses shape the backbone.

Exchange 'pool' (Section 4.1): teachers are `teachers` random snapshots from the student's pool,
in evaluation mode; one slot is replaced every S_P steps. Exchange 'fresh' (Algorithm 1): everyone's
current predictions on one common public batch, computed once before any update. Exchange
'published', a variant of the pool that costs K forward passes whatever Delta is: everyone predicts
with one random past snapshot of its own on one common public batch.

Departures and readings: Lambda is `max`, not the paper's `arg max`; rho is z^2 unless the config
says otherwise; self comes last, so a tie goes to the teacher; a client without teachers takes no
distillation loss; the pool starts with its teachers' first weights, in turn.
"""

from types import SimpleNamespace

import flax
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from kdjax.algorithms.mhd import broadcast, pooled
from kdjax.algorithms.separate import cross_entropy
from kdjax.core import losses
from kdjax.core.clients import share, update
from kdjax.core.env import sharded
from kdjax.core.random import example_keys
from kdjax.models.heads import head_names
from kdjax.types import Algorithm, ConfigError, Feed, Phase

EXCHANGES = ("pool", "fresh", "published")
ONE_PASS = ("always", "auto", "never")
TARGETS = ("confident", "random", "all")


def heads(*, aux_heads, **_):
  """The names of the model's heads: main, aux1 .. aux_m."""
  return head_names(1 + aux_heads)


def speaks_as_it_learns(env):
  """Whether training and evaluation passes are the same: no network has BatchNorm or dropout."""
  one = jax.ShapeDtypeStruct((1, *env.image), env.dtype), jax.ShapeDtypeStruct((1,), jnp.float32)

  def differs(cohort, client):
    if jax.tree.leaves(client.model_state):
      return True
    train = lambda c, x, mask: cohort.model.apply({"params": c.params}, x, train=True, mask=mask)
    try:
      jax.eval_shape(sharded(env, train, P(), P()), client, *one)
    except flax.errors.InvalidRngError:  # it draws
      return True
    return False

  return not any(map(differs, env.cohorts, env.templates))


def predictions(logits, m):
  """What a teacher tells: probabilities of heads 0 .. m-1; logits f32[..., H, C] -> [..., m, C]."""
  return jax.nn.softmax(logits[..., :m, :])


def choose_target(p, valid, noise, *, target, confidence):
  """The target of every head for every example, Eq. 4.

  Args:
    p: f32[J, U, m, C], candidates' probabilities.
    valid: bool[J], candidates that are there.
    noise: f32[J, U, m], for target='random'.
    target: 'confident' or 'random'.
    confidence: an entry of `losses.CONFIDENCES`.

  Returns:
    f32[U, m, C].
  """
  score = losses.CONFIDENCES[confidence](p) if target == "confident" else noise
  return losses.most_confident(jnp.where(valid[:, None, None], score, -jnp.inf), p)


def aux_losses(logits, teachers, valid, noise, *, target, include_self, confidence, skip_confident):
  """Losses of the auxiliary heads, Eqs. 3 to 5, without nu_aux.

  Args:
    logits: f32[U, H, C], the student's; the only argument that receives gradient.
    teachers: f32[D, U, m, C], probabilities of the teachers' heads 0 .. m-1.
    valid: bool[D], teachers that are there; with none at all the self-distillation remains.
    noise: f32[D + 1, U, m], for target='random'.
    target: 'confident' (Eq. 4), 'random', or 'all' (Eq. 3: the sum over all teachers, no self).
    include_self: whether the student itself is a candidate, the last one.
    confidence: an entry of `losses.CONFIDENCES`.
    skip_confident: leave out a sample for a head already more confident than its target.

  Returns:
    f32[U, m].
  """
  m = teachers.shape[2]
  student = logits[:, 1:]  # heads 1 .. m, each learning from level k - 1
  if target == "all":
    target_p = losses.renormalise(jax.lax.stop_gradient(teachers))
    each = losses.soft_cross_entropy(target_p, student)  # [D, U, m]
    return jnp.sum(each * valid[:, None, None], axis=0)
  p = teachers
  if include_self:
    p = jnp.concatenate([p, predictions(logits, m)[None]])
    valid = jnp.append(valid, True)
  p = jax.lax.stop_gradient(p)
  chosen = choose_target(p, valid, noise[: len(p)], target=target, confidence=confidence)
  loss = losses.soft_cross_entropy(losses.renormalise(chosen), student)
  if skip_confident:
    measure = losses.CONFIDENCES[confidence]
    loss = jnp.where(measure(jax.nn.softmax(student)) > measure(chosen), 0.0, loss)
  return loss


def embedding_loss(embedding, teachers, valid, *, rho):
  """Eq. 2 without nu_emb; embedding f32[U, F], teachers f32[D, U, F], valid bool[D] -> f32[U]."""
  distance = losses.embedding_distance(losses.RHOS[rho], embedding, teachers)
  return jnp.sum(distance * valid[:, None], axis=0)


def make(
  env,
  *,
  aux_heads,
  nu_emb,
  nu_aux,
  exchange,
  teachers,
  pool_size,
  refresh_every,
  publish,
  top_k,
  one_pass,
  target,
  include_self,
  confidence,
  skip_confident,
  rho,
  public_statistics,
):
  """MHD.

  Args:
    env: Env.
    aux_heads: m.
    nu_emb, nu_aux: weights of the two distillation losses.
    exchange: an entry of `EXCHANGES`.
    teachers: Delta, teachers drawn per step.
    pool_size: N_P; in the published exchange, of a client's own snapshots.
    refresh_every: S_P, training batches between two refreshes of the pool.
    publish: snapshots a client to keep under `pool/CLIENT/STEP` of the run folder; 0: none.
    top_k: where predictions are sent, how many class probabilities; 0: all.
    one_pass: in the fresh exchange, whether a client's training pass is also what it says, which
      saves one pass of seven: 'always'; 'auto', where it equals the evaluation pass, in networks
      without BatchNorm and dropout; 'never'. Elsewhere a client says what a second pass finds,
      in evaluation mode.
    target: an entry of `TARGETS`: most confident, random, or all (the naive loss, Eq. 3).
    include_self: whether a client is among its own candidates.
    confidence: Lambda, an entry of `losses.CONFIDENCES`.
    skip_confident: the paper's "ignoring poor distillation targets".
    rho: an entry of `losses.RHOS`.
    public_statistics: whether the public pass, too, moves BatchNorm's running statistics.

  Raises:
    ConfigError: for a name that does not exist or sizes that cannot be.
  """
  check(env, SimpleNamespace(**locals()))  # every argument by its name
  m = aux_heads
  predicts, embeds = nu_aux > 0 and m > 0, nu_emb > 0

  def speak(out):  # what is not used is neither computed nor sent
    p = predictions(out.logits, m if predicts else 0)
    return p, out.embedding if embeds else out.embedding[..., :0]

  pools = dict(teachers=teachers, pool_size=pool_size, refresh_every=refresh_every)
  if exchange == "pool":
    ex = pooled.exchange(env, speak, **pools, publish=publish)
  elif exchange == "published":
    ex = broadcast.published(env, speak, **pools, top_k=top_k)
  else:
    one = one_pass == "always" or (one_pass == "auto" and speaks_as_it_learns(env))
    ex = broadcast.fresh(env, speak, teachers=teachers, top_k=top_k, one_pass=one)

  def distil(apply, params, d, statistics):
    """The distillation terms on the public half: (share of the loss, aux, model_state)."""
    half = d["public"]
    out, model_state = ex.own(apply, params, statistics, d["asked"], half)
    p, xi, valid = ex.hear(d["asked"], half.image)
    taught = half.mask * valid.any()  # a client without teachers takes no distillation loss
    loss, aux = 0.0, {}
    if predicts:
      keys = example_keys(d["noise"], len(taught))
      noise = jax.vmap(lambda k: jax.random.gumbel(k, (teachers + 1, m)), out_axes=1)(keys)
      each = aux_losses(
        out.logits,
        p,
        valid,
        noise,
        target=target,
        include_self=include_self,
        confidence=confidence,
        skip_confident=skip_confident,
      )
      for k in range(m):
        aux[f"aux{k + 1}"] = share(each[:, k], taught, half.total)
        loss += nu_aux * aux[f"aux{k + 1}"]
    if embeds:
      distance = embedding_loss(out.embedding, xi, valid, rho=rho)
      aux["embedding"] = share(distance, taught, half.total)
      loss += nu_emb * aux["embedding"]
    return loss, aux, model_state

  def objective(apply, params, d):
    ce, model_state = cross_entropy(apply, params, d["private"])
    loss, aux = ce, {"cross_entropy": ce}
    if predicts or embeds:
      distilled, more, mixed = distil(apply, params, d, model_state)
      loss, aux = loss + distilled, aux | more
      if public_statistics:
        model_state = mixed
    return loss, (aux | {"loss": loss}, model_state)

  def step(state, batch, now):
    data = tuple(
      {"private": private, "public": public, "asked": asked, "noise": noise}
      for private, public, asked, noise in zip(
        batch.private,
        batch.public,
        ex.ask(state, batch, now),
        [env.keys(g, "target", now.count) for g in range(len(env.cohorts))],
        strict=True,
      )
    )
    clients, aux = update(env, state.clients, objective, data, now.lr)
    return state._replace(clients=clients), aux

  feed = Feed(private=env.batch, public=env.public_batch, common=ex.common)
  train = Phase("train", step, feed, ex.steps, lr=env.rate, args=ex.args, sent=ex.sent)
  return Algorithm(
    lambda clients: (clients, ex.init(clients), ()),
    (train, ex.refresh) if ex.refresh else (train,),
    env.predict,
    start=ex.start,
    uses_graph=True,
  )


def check(env, algo):
  """Raises ConfigError where `make`'s arguments cannot work together; `algo` has them by name."""

  def refuse(key, hint):
    raise ConfigError(f"algo.{key}", getattr(algo, key), hint)

  choices = {
    "exchange": EXCHANGES,
    "target": TARGETS,
    "confidence": losses.CONFIDENCES,
    "rho": losses.RHOS,
    "one_pass": ONE_PASS,
  }
  for key, allowed in choices.items():
    if getattr(algo, key) not in allowed:
      refuse(key, "must be one of " + ", ".join(allowed))
  for key in ("aux_heads", "nu_emb", "nu_aux"):
    if getattr(algo, key) < 0:
      refuse(key, "must not be negative")
  pool, published = algo.exchange == "pool", algo.exchange == "published"
  if algo.publish < 0 or (algo.publish and not pool):
    hint = "snapshots a client to keep: at least 0, and above 0 with exchange='pool' only"
    refuse("publish", hint)
  if algo.skip_confident and algo.target == "all":
    refuse("skip_confident", "must be False with target='all', where no target is chosen")
  if pool and algo.pool_size < algo.teachers:
    hint = f"must be at least algo.teachers = {algo.teachers}, which are drawn without replacement"
    refuse("pool_size", hint)
  if published and algo.pool_size < 1:
    refuse("pool_size", "must be at least 1")
  if (pool or published) and algo.refresh_every < 1:
    refuse("refresh_every", "must be at least 1")
  most = algo.pool_size if pool else env.K
  if not 1 <= algo.teachers <= most:
    refuse("teachers", f"must lie in 1..{most}")
  if pool and algo.top_k:
    refuse("top_k", "must be 0 with exchange='pool', which sends checkpoints and no predictions")
  if not 0 <= algo.top_k <= env.classes:
    refuse("top_k", f"must lie in 0..{env.classes}, the classes")
  gated = algo.target == "confident" or algo.skip_confident
  gated = gated and algo.aux_heads > 0 and algo.nu_aux > 0
  fewest = {"margin": 2, "entropy": env.classes}.get(algo.confidence, 1)
  if gated and 0 < algo.top_k < fewest:
    hint = f"with confidence={algo.confidence!r} must be 0 or at least {fewest}, or teachers look"
    refuse("top_k", f"{hint} surer than they are")
  if algo.exchange == "fresh" and algo.one_pass == "always" and algo.public_statistics:
    hint = "must be False with algo.one_pass='always': the public pass comes before the private"
    refuse("public_statistics", hint)
  if algo.nu_emb > 0 and len(set(env.widths)) > 1:
    refuse("nu_emb", f"widths {env.widths} differ: set model.project, or algo.nu_emb=0")
  if not env.public_batch:
    raise ConfigError("public_batch", env.public_batch, "must be at least 1 for distillation")
  if not env.public_sizes.min():
    raise ConfigError("public_share", 0, "leaves no public example: distillation needs some")
