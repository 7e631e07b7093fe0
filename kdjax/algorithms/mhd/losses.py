"""The losses of MHD, one number per example: Eqs. 2 to 5 of the paper (method.py)."""

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

from kdjax.core import losses
from kdjax.core.arrays import Array


def predictions(logits: Float[Array, "*n H C"], m: int) -> Float[Array, "*n {m} C"]:
  """A teacher's predictions: probabilities of heads 0 .. m-1; f32[..., H, C] -> f32[..., m, C]."""
  return jax.nn.softmax(logits[..., :m, :])


def choose_target(
  p: Float[Array, "J U m C"],
  valid: Bool[Array, "J U"],
  noise: Float[Array, "_ U m"],
  *,
  target: str,
  confidence: str,
) -> Float[Array, "U m C"]:
  """The target of every head for every example, Eq. 4.

  Args:
    p: f32[J, U, m, C], candidates' probabilities.
    valid: bool[J, U], whether a candidate has a valid prediction of an example.
    noise: f32[J, U, m], for target='random'.
    target: 'confident' or 'random'.
    confidence: an entry of `losses.CONFIDENCES`.

  Returns:
    f32[U, m, C].
  """
  score = losses.CONFIDENCES[confidence](p) if target == "confident" else noise
  return losses.most_confident(jnp.where(valid[..., None], score, -jnp.inf), p)


def aux_losses(
  logits: Float[Array, "U H C"],
  teachers: Float[Array, "D U m C"],
  valid: Bool[Array, "D U"],
  noise: Float[Array, "D+1 U m"],
  *,
  target: str,
  include_self: bool,
  confidence: str,
  skip_confident: bool,
  own: Float[Array, "U H C"] | None = None,
) -> Float[Array, "U m"]:
  """Losses of the auxiliary heads, Eqs. 3 to 5, without nu_aux.

  Args:
    logits: f32[U, H, C], the student's; the only argument that receives gradient.
    teachers: f32[D, U, m, C], probabilities of the teachers' heads 0 .. m-1.
    valid: bool[D, U], whether a teacher has a valid prediction of an example. Without any valid
      teacher, self-distillation remains.
    noise: f32[D + 1, U, m], for target='random'.
    target: 'confident' (Eq. 4), 'random', or 'all' (Eq. 3: the sum over all teachers, without the
      student itself).
    include_self: whether the student itself is a candidate, the last one.
    confidence: an entry of `losses.CONFIDENCES`.
    skip_confident: leave out an example for a head that is already more confident than its target.
    own: f32[U, H, C], the student's logits as a candidate, by which its confidence is compared;
      None: `logits`.

  Returns:
    f32[U, m].
  """
  m = teachers.shape[2]
  student = logits[:, 1:]  # heads 1 .. m, each learning from level k - 1
  own = logits if own is None else own
  if target == "all":
    target_p = losses.renormalise(jax.lax.stop_gradient(teachers))
    each = losses.soft_cross_entropy(target_p, student)  # [D, U, m]
    return jnp.sum(each * valid[..., None], axis=0)
  p = teachers
  if include_self:
    p = jnp.concatenate([p, predictions(own, m)[None]])
    valid = jnp.concatenate([valid, jnp.ones_like(valid[:1])])
  p = jax.lax.stop_gradient(p)
  chosen = choose_target(p, valid, noise[: len(p)], target=target, confidence=confidence)
  loss = losses.soft_cross_entropy(losses.renormalise(chosen), student)
  if skip_confident:
    measure = losses.CONFIDENCES[confidence]
    loss = jnp.where(measure(jax.nn.softmax(own[:, 1:])) > measure(chosen), 0.0, loss)
  return loss


def embedding_loss(
  embedding: Float[Array, "U F"],
  teachers: Float[Array, "D U F"],
  valid: Bool[Array, "D U"],
  *,
  rho: str,
) -> Float[Array, " U"]:
  """Eq. 2 without nu_emb, f32[U]: the sum over the valid teachers, bool[D, U]."""
  distance = losses.embedding_distance(losses.RHOS[rho], embedding, teachers)
  return jnp.sum(distance * valid, axis=0)
