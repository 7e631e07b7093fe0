"""Losses and confidences of distillation, one number per example; the caller reduces them.

Equation numbers: Zhmoginov et al., Decentralized Learning with Multi-Headed Distillation,
CVPR 2023, https://arxiv.org/abs/2211.15774.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from kdjax.core.arrays import Array

EPS = 1e-6  # keeps the gradient of a norm finite at the origin


def cross_entropy(logits: Float[Array, "... C"], label: Int[Array, "..."]) -> Float[Array, "..."]:
  """`-log softmax(logits)[label]`; logits f32[..., C], label i32[...] -> f32[...]."""
  log_p = jax.nn.log_softmax(logits)
  return -jnp.take_along_axis(log_p, jnp.maximum(label, 0)[..., None], axis=-1)[..., 0]


def soft_cross_entropy(
  target: Float[Array, "... C"], logits: Float[Array, "... C"]
) -> Float[Array, "..."]:
  """`-sum_c target_c log softmax(logits)_c`, Eq. 3; target, logits f32[..., C] -> f32[...]."""
  return -jnp.sum(target * jax.nn.log_softmax(logits), axis=-1)


def kl(p: Float[Array, "... C"], logits: Float[Array, "... C"]) -> Float[Array, "..."]:
  """`KL(p || softmax(logits))`, no gradient into p; p, logits f32[..., C] -> f32[...]."""
  p = jax.lax.stop_gradient(p)
  return soft_cross_entropy(p, logits) + negative_entropy(p)


def tempered_kl(
  teacher_logits: Float[Array, "... C"], student_logits: Float[Array, "... C"], T: float
) -> Float[Array, "..."]:
  """`T^2 KL(softmax(teacher / T) || softmax(student / T))`, no gradient into the teacher.

  The factor keeps the gradient's size as T grows: it tends to the centred difference of the logits
  over C (Hinton, Vinyals and Dean, 2015, section 2.1, https://arxiv.org/abs/1503.02531).

  Args:
    teacher_logits, student_logits: f32[..., C].
    T: the temperature, above 0.

  Returns:
    f32[...].
  """
  log_p = jax.nn.log_softmax(jax.lax.stop_gradient(teacher_logits) / T)
  log_q = jax.nn.log_softmax(student_logits / T)
  return T**2 * jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1)


def absolute_error(
  target: Float[Array, "... C"], logits: Float[Array, "... C"]
) -> Float[Array, "..."]:
  """`mean_c |target_c - logits_c|`, FedMD's digest; target, logits f32[..., C] -> f32[...]."""
  return jnp.mean(jnp.abs(target - logits), axis=-1)


def max_probability(p: Float[Array, "... C"]) -> Float[Array, "..."]:
  """Lambda of the paper, `max_c p_c`; p f32[..., C] -> f32[...]."""
  return jnp.max(p, axis=-1)


def negative_entropy(p: Float[Array, "... C"]) -> Float[Array, "..."]:
  """`sum_c p_c log p_c`, in nats, from `-log C` (uniform) to 0; p f32[..., C] -> f32[...]."""
  return jnp.sum(jnp.where(p > 0, p * jnp.log(jnp.where(p > 0, p, 1.0)), 0.0), axis=-1)


def margin(p: Float[Array, "... C"]) -> Float[Array, "..."]:
  """Largest minus second largest probability; p f32[..., C] -> f32[...]."""
  top, _ = jax.lax.top_k(p, 2)
  return top[..., 0] - top[..., 1]


CONFIDENCES = {"max": max_probability, "entropy": negative_entropy, "margin": margin}


def square(z2: Float[Array, "..."]) -> Float[Array, "..."]:
  """rho(z) = z^2, given z^2."""
  return z2


def pseudo_huber(z2: Float[Array, "..."]) -> Float[Array, "..."]:
  """rho(z) = sqrt(1 + z^2) - 1: z^2 / 2 near 0, |z| far from it; given z^2."""
  return jnp.sqrt(1.0 + z2) - 1.0


RHOS = {"square": square, "pseudo_huber": pseudo_huber}


def normalise(xi: Float[Array, "... F"]) -> Float[Array, "... F"]:
  """`xi / ||xi||`, safe at the origin; xi f32[..., F] -> f32[..., F]."""
  return xi / jnp.sqrt(jnp.sum(xi * xi, axis=-1, keepdims=True) + EPS**2)


def embedding_distance(
  rho: Callable[[jax.Array], jax.Array],
  student: Float[Array, "... F"],
  teacher: Float[Array, "... F"],
) -> Float[Array, "..."]:
  """`rho(||xi_hat_i - xi_hat_j||)`, Eq. 2 with normalised embeddings.

  Args:
    rho: an entry of `RHOS`.
    student: f32[..., F].
    teacher: f32[..., F]; no gradient flows into it.

  Returns:
    f32[...], within [0, 4] for `square`.
  """
  difference = normalise(student) - jax.lax.stop_gradient(normalise(teacher))
  return rho(jnp.sum(difference * difference, axis=-1))


def renormalise(p: Float[Array, "... C"]) -> Float[Array, "... C"]:
  """Scales probabilities to add up to 1 where some were not sent; all zeros stay zeros.

  p f32[..., C] -> f32[..., C].
  """
  total = jnp.sum(p, axis=-1, keepdims=True)
  return p / jnp.where(total > 0, total, 1.0)


def most_confident(
  confidence: Float[Array, "J ..."], candidates: Float[Array, "J ... C"]
) -> Float[Array, "... C"]:
  """The candidate with the largest confidence for every example; ties go to the first.

  Args:
    confidence: f32[J, ...].
    candidates: f32[J, ..., C].

  Returns:
    f32[..., C], Eq. 4's target h_{j*(x)}(x).
  """
  j = jnp.argmax(confidence, axis=0)
  return jnp.take_along_axis(candidates, j[None, ..., None], axis=0)[0]
