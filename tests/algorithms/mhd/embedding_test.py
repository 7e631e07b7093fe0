"""Distillation of embeddings, Eq. 2: numbers by hand and identities."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.algorithms.mhd import losses as mhd

embedding_loss = jax.jit(mhd.embedding_loss, static_argnames="rho")


def there(valid, teachers):
  """bool[D, U] of bool[D]."""
  return jnp.broadcast_to(jnp.asarray(valid).reshape(-1, 1), teachers.shape[:2])


def near(value, expected):
  np.testing.assert_allclose(value, expected, rtol=0, atol=1e-5)


# (3, 4) and (0, 2) have the directions (.6, .8) and (0, 1): z^2 = .36 + .04 = .4;
# (-3, -4) is opposite: z^2 = 4. rho is z^2, or sqrt(1 + z^2) - 1.
@pytest.mark.parametrize(
  "rho, first, both", [("square", 0.4, 4.4), ("pseudo_huber", 0.183216, 0.183216 + 1.236068)]
)
def test_embedding_loss(rho, first, both):
  student, teachers = jnp.array([[3.0, 4.0]]), jnp.array([[[0.0, 2.0]], [[-3.0, -4.0]]])
  near(embedding_loss(student, teachers, there([True, True], teachers), rho=rho), [both])
  near(embedding_loss(student, teachers, there([True, False], teachers), rho=rho), [first])
  near(embedding_loss(student, teachers, there([False, False], teachers), rho=rho), [0.0])


@pytest.mark.parametrize("rho", ["square", "pseudo_huber"])
def test_embedding_loss_sees_directions_only(rho):
  """U8: neither side's scale matters, and the gradient is orthogonal to the embedding."""
  with jax.enable_x64(True):
    a, b = jax.random.split(jax.random.key(1))
    xi, teachers = jax.random.normal(a, (5, 7)), jax.random.normal(b, (3, 5, 7))
    loss = lambda xi, teachers: embedding_loss(xi, teachers, there(True, teachers), rho=rho)
    value = loss(xi, teachers)
    np.testing.assert_allclose(loss(3.7 * xi, teachers), value, rtol=1e-10)
    np.testing.assert_allclose(loss(xi, 0.2 * teachers), value, rtol=1e-10)
    gradient = jax.grad(lambda xi: loss(xi, teachers).sum())(xi)
    assert np.abs(gradient).max() > 0.01
    np.testing.assert_allclose((gradient * xi).sum(-1), np.zeros(5), atol=1e-10)


def test_embedding_loss_ranges_from_0_to_4_a_teacher():
  """U8."""
  with jax.enable_x64(True):
    xi = jax.random.normal(jax.random.key(2), (5, 7))
    teachers = jnp.stack([xi, -2 * xi])
    one = lambda valid: embedding_loss(xi, teachers, there(valid, teachers), rho="square")
    np.testing.assert_allclose(one([True, False]), np.zeros(5), atol=1e-10)
    np.testing.assert_allclose(one([False, True]), np.full(5, 4.0), rtol=1e-10)
    others = jax.random.normal(jax.random.key(3), (1, 5, 7))
    value = embedding_loss(xi, others, there(True, others), rho="square")
    length = lambda x: np.linalg.norm(x, axis=-1)
    cosine = (xi * others[0]).sum(-1) / length(xi) / length(others[0])
    np.testing.assert_allclose(value, 2 - 2 * cosine, rtol=1e-8)


def test_embedding_loss_is_finite_at_the_origin():
  xi, teachers = jnp.zeros((1, 3)), jnp.array([[[1.0, 2.0, 2.0]], [[0.0, 0.0, 0.0]]])
  loss = lambda xi: embedding_loss(xi, teachers, there(True, teachers), rho="square").sum()
  value, gradient = jax.value_and_grad(loss)(xi)
  near(value, 1.0)  # |0 - (1, 2, 2) / 3|^2 + 0
  assert np.isfinite(gradient).all()


def test_embedding_teachers_receive_no_gradient():
  xi, teachers = jnp.array([[1.0, 2.0]]), jnp.array([[[2.0, 1.0]]])
  loss = lambda xi, t: embedding_loss(xi, t, there(True, t), rho="square").sum()
  to_xi, to_teachers = jax.grad(loss, (0, 1))(xi, teachers)
  chex.assert_trees_all_equal(to_teachers, jnp.zeros_like(teachers))
  assert np.abs(to_xi).max() > 0.01
