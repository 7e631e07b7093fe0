"""Losses of distillation: numbers by hand, then identities that every implementation must have."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.algorithms.mhd import losses as mhd
from kdjax.core import losses

LN2 = np.log(2.0)
CONFIDENT = dict(target="confident", include_self=True, confidence="max", skip_confident=False)
aux_losses = jax.jit(mhd.aux_losses, static_argnames=tuple(CONFIDENT))


def near(value, expected):
  np.testing.assert_allclose(value, expected, rtol=0, atol=1e-5)


def there(teachers, valid=True):
  """bool[D, U]: which teachers are there, all of them unless `valid` says otherwise."""
  return jnp.broadcast_to(jnp.asarray(valid).reshape(-1, 1), teachers.shape[:2])


def aux(student, teachers, valid=None, noise=None, **changes):
  """`aux_losses` of probabilities: student [H, C], teachers [D, m, C] -> [m], for one example."""
  student, teachers = jnp.log(jnp.array(student, float)), jnp.array(teachers, float)
  valid = jnp.ones(len(teachers), bool) if valid is None else jnp.array(valid)
  valid = valid[:, None]
  if noise is None:
    noise = np.zeros((len(teachers) + 1, 1, teachers.shape[1]))
  return aux_losses(student[None], teachers[:, None], valid, noise, **CONFIDENT | changes)[0]


def random_case(seed=0, D=2, U=6, m=2, C=5):
  """(student logits [U, H, C], teachers' probabilities [D, U, m, C], noise [D + 1, U, m])."""
  a, b, c = jax.random.split(jax.random.key(seed), 3)
  logits = 2 * jax.random.normal(a, (U, m + 1, C))
  teachers = mhd.predictions(2 * jax.random.normal(b, (D, U, m + 1, C)), m)
  return logits, teachers, jax.random.gumbel(c, (D + 1, U, m))


# Numbers by hand


def test_what_a_client_says_in_another_mode_is_its_candidate():
  """By hand: its own main head is surer as it learns (.9), but speaks with .6; a teacher has .8."""
  student, teacher = [[0.9, 0.1], [0.75, 0.25]], [[[0.2, 0.8]]]
  speaks = jnp.log(jnp.array([[[0.6, 0.4], [0.5, 0.5]]]))
  near(aux(student, teacher), -0.9 * np.log(0.75) - 0.1 * np.log(0.25))
  near(aux(student, teacher, own=speaks), -0.2 * np.log(0.75) - 0.8 * np.log(0.25))
  surer = jnp.log(jnp.array([[[0.6, 0.4], [0.85, 0.15]]]))  # than its target of .8
  near(aux(student, teacher, own=surer, skip_confident=True), 0.0)
  near(
    aux(student, teacher, own=speaks, skip_confident=True), -0.2 * np.log(0.75) - 0.8 * np.log(0.25)
  )


def test_cross_entropy():
  logits = jnp.log(jnp.array([[1.0, 3.0], [1.0, 3.0]]))  # p = (1/4, 3/4)
  near(losses.cross_entropy(logits, jnp.array([0, 1])), [1.386294, 0.287682])  # ln 4, ln 4/3


def test_cross_entropy_of_a_missing_label_is_finite():
  """A label of -1 stands on masked rows, and 0 * nan would still be nan."""
  assert np.isfinite(losses.cross_entropy(jnp.zeros((1, 3)), jnp.array([-1])))


def test_soft_cross_entropy():
  logits = jnp.log(jnp.array([1.0, 3.0]))
  # 1/2 ln 4 + 1/2 ln 4/3 = 1/2 ln 16/3
  near(losses.soft_cross_entropy(jnp.array([0.5, 0.5]), logits), 0.836988)


def test_renormalise():
  near(
    losses.renormalise(jnp.array([[0.25, 0.0, 0.5], [0.0, 0.0, 0.0]])), [[1 / 3, 0, 2 / 3], [0] * 3]
  )


def test_absolute_error():
  # (|1 - 0| + |2 - 2| + |3 - 5|) / 3
  near(losses.absolute_error(jnp.array([1.0, 2.0, 3.0]), jnp.array([0.0, 2.0, 5.0])), 1.0)


def test_tempered_kl():
  """T = 2 halves logits 2 ln 1, 2 ln 3: teacher (1/4, 3/4), student (1/2, 1/2)."""
  teacher, student = 2 * jnp.log(jnp.array([1.0, 3.0])), jnp.zeros(2)
  near(losses.tempered_kl(teacher, student, 2.0), 0.523248)  # 4 (1/4 ln 1/2 + 3/4 ln 3/2)
  near(losses.tempered_kl(student, teacher, 2.0), 0.575364)  # 4 (1/2 ln 2 + 1/2 ln 2/3)


@pytest.mark.parametrize("T", [1.0, 3.0])
def test_tempered_kl_of_equals_is_zero_and_so_is_its_gradient(T):
  with jax.enable_x64(True):
    z = jax.random.normal(jax.random.key(0), (6, 5), float)
    shifted = lambda s: losses.tempered_kl(z + 1.5, s, T).sum()  # the same probabilities
    value, gradient = jax.value_and_grad(shifted)(z)
    np.testing.assert_allclose(value, 0, atol=1e-13)
    np.testing.assert_allclose(gradient, np.zeros_like(z), atol=1e-13)


def test_tempered_kl_moves_the_student_alone():
  """By T (softmax(student / T) - softmax(teacher / T)); hot, by the centred difference over C."""
  with jax.enable_x64(True):
    t, s = jax.random.normal(jax.random.key(1), (2, 6, 5), float)
    gradient = lambda T: jax.grad(lambda t, s: losses.tempered_kl(t, s, T).sum(), (0, 1))(t, s)
    to_teacher, to_student = gradient(3.0)
    chex.assert_trees_all_equal(to_teacher, jnp.zeros_like(t))
    expected = 3 * (jax.nn.softmax(s / 3) - jax.nn.softmax(t / 3))
    np.testing.assert_allclose(to_student, expected, rtol=1e-10, atol=1e-14)
    centred = (s - s.mean(1, keepdims=True)) - (t - t.mean(1, keepdims=True))
    for T in (1e3, 2e3):  # whatever the temperature, once it is high
      np.testing.assert_allclose(gradient(T)[1], centred / 5, atol=2e-3 * 1e3 / T)


def test_confidences():
  p = jnp.array([[0.5, 0.25, 0.25], [1.0, 0.0, 0.0]])
  near(losses.max_probability(p), [0.5, 1.0])
  near(losses.negative_entropy(p), [-1.5 * LN2, 0.0])  # 1/2 of 1 bit + 1/2 of 2 bits; 0 log 0 = 0
  near(losses.margin(p), [0.25, 1.0])


# The head that learns has p = (1/2, 1/4, 1/8, 1/16, 1/16): a class costs 1, 2, 3, 4, 4 bits.
HALVES = [2.0**-1, 2.0**-2, 2.0**-3, 2.0**-4, 2.0**-4]
A = [0.60, 0.20, 0.10, 0.05, 0.05]  # max .60, entropy 1.16, margin .40;  .6+.4+.3+.2+.2 = 1.70 bits
B = [0.55, 0.45, 0.00, 0.00, 0.00]  # max .55, entropy  .69, margin .10;  .55+.9        = 1.45 bits
C = [0.58, 0.12, 0.10, 0.10, 0.10]  # max .58, entropy 1.26, margin .46;  .58+.24+.3+.8 = 1.92 bits


@pytest.mark.parametrize("confidence, bits", [("max", 1.70), ("entropy", 1.45), ("margin", 1.92)])
def test_each_confidence_chooses_its_own_teacher(confidence, bits):
  """Eq. 4; the student's uniform main head is the least confident by every measure."""
  student, teachers = [[0.2] * 5, HALVES], [[A], [B], [C]]
  near(aux(student, teachers, confidence=confidence), [bits * LN2])


def test_all_sums_over_the_teachers_without_self():
  """Eq. 3."""
  student, teachers = [[1, 0.0001, 0.0001, 0.0001, 0.0001], HALVES], [[A], [B], [C]]
  near(aux(student, teachers, target="all"), [(1.70 + 1.45 + 1.92) * LN2])
  near(aux(student, teachers, target="all", valid=[True, False, True]), [(1.70 + 1.92) * LN2])


@pytest.mark.parametrize("settings", [{"target": "all"}, {"include_self": False}])
def test_teachers_that_are_not_there_teach_nothing(settings):
  """An empty slot is all zeros, see `method.valid_predictions`: no loss, no gradient, no nan."""
  student = [[1, 0.0001, 0.0001, 0.0001, 0.0001], HALVES]
  empty = [[[0.0] * 5]]
  near(aux(student, empty, valid=[False], **settings), [0.0])
  near(aux(student, [[A], *empty], valid=[True, False], **settings), [1.70 * LN2])


def test_cascade_takes_each_heads_target_from_the_level_below():
  """Eq. 5, three heads; each level has its own winner."""
  student = [[0.6, 0.4], [0.9, 0.1], [0.6, 0.4], [0.25, 0.75]]  # main, aux1, aux2, aux3
  teacher = [[0.8, 0.2], [0.7, 0.3], [0.35, 0.65]]  # main, aux1, aux2
  expected = [
    0.544805,  # level 0, .8 > .6, the teacher's main head: -.8 ln .9 - .2 ln .1
    0.551372,  # level 1, .9 > .7, the student's own aux1: -.9 ln .6 - .1 ln .4
    0.672196,  # level 2, .65 > .6, the teacher's aux2: -.35 ln .25 - .65 ln .75
  ]
  near(aux(student, [teacher]), expected)


def test_without_self_a_poorer_teacher_is_the_target():
  student, teacher = [[0.9, 0.1], [0.25, 0.75]], [[0.4, 0.6]]
  near(aux(student, [teacher], include_self=False), [0.727127])  # -.4 ln .25 - .6 ln .75
  near(aux(student, [teacher]), [1.276433])  # self, .9 > .6: -.9 ln .25 - .1 ln .75


def test_a_tie_goes_to_the_first_teacher_and_never_to_self():
  logits = jnp.array([[[0.0, 1.0], [2.0, 0.0]]])  # main head, aux1
  first, second = jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0])  # as confident as the main head
  teachers = jax.nn.softmax(jnp.stack([first, second]))[:, None, None]
  loss = aux_losses(logits, teachers, there(teachers), jnp.zeros((3, 1, 1)), **CONFIDENT)
  expected = losses.soft_cross_entropy(jax.nn.softmax(first), logits[0, 1])
  chex.assert_trees_all_equal(loss[0, 0], expected)
  others = losses.soft_cross_entropy(jax.nn.softmax(second), logits[0, 1])
  assert abs(loss[0, 0] - others) > 0.5


@pytest.mark.parametrize("target", ["confident", "random", "all"])
def test_an_invalid_teacher_is_never_chosen(target):
  student, certain, good = [[0.5, 0.5], [0.25, 0.75]], [[1.0, 0.0]], [[0.4, 0.6]]
  noise = np.array([99.0, 1.0, 0.0])[:, None, None]  # would favour the invalid one, then the other
  loss = aux(student, [certain, good], valid=[False, True], noise=noise, target=target)
  near(loss, [0.727127])  # -.4 ln .25 - .6 ln .75; the certain one would cost ln 4 = 1.386


def test_skip_leaves_out_heads_more_confident_than_their_target():
  teacher = [[0.8, 0.2]]
  skip = dict(skip_confident=True, include_self=False)
  near(aux([[0.5, 0.5], [0.9, 0.1]], [teacher], **skip), [0.0])
  near(
    aux([[0.5, 0.5], [0.1, 0.9]], [teacher], **skip), [0.0]
  )  # confident, though of another class
  near(aux([[0.5, 0.5], [0.7, 0.3]], [teacher], **skip), [0.526135])  # -.8 ln .7 - .2 ln .3


def test_skip_keeps_a_head_exactly_as_confident_as_its_target():
  logits = jnp.array([[[0.0, 0.0], [2.0, 0.0]]])
  teachers = mhd.predictions(logits[:, 1:], 1)[None]
  arguments = CONFIDENT | dict(skip_confident=True, include_self=False)
  loss = aux_losses(logits, teachers, there(teachers), jnp.zeros((2, 1, 1)), **arguments)
  near(loss, [[0.365334]])  # the entropy of (.880797, .119203)


@pytest.mark.parametrize("confidence", ["max", "entropy", "margin"])
def test_a_uniform_head_skips_nothing(confidence):
  """U15: no target is less confident than 1 / C."""
  _, teachers, noise = random_case(D=2, U=6, m=2, C=5)
  teachers = teachers.at[:, 0].set(0.2)  # not even a uniform target
  arguments = CONFIDENT | dict(skip_confident=True, confidence=confidence)
  loss = aux_losses(jnp.zeros((6, 3, 5)), teachers, there(teachers), noise, **arguments)
  near(loss, np.full((6, 2), np.log(5)))


def test_random_target_is_uniform_over_teachers_and_self():
  """U14: candidates of equal confidence; the mean over draws is the mean of their losses."""
  n = 20_000
  # The head has p = (1/2, 1/4, 1/4); the candidates cost 1.3, 1.8 and 1.9 bits.
  candidates = np.array([[0.7, 0.2, 0.1], [0.2, 0.7, 0.1], [0.1, 0.2, 0.7]])
  bits = np.array([1.3, 1.8, 1.9])
  logits = jnp.log(jnp.array([candidates[2], [0.5, 0.25, 0.25]]))  # self is the third
  noise = jax.random.gumbel(jax.random.key(0), (3, n, 1))
  loss = aux_losses(
    jnp.tile(logits, (n, 1, 1)),
    jnp.tile(jnp.array(candidates[:2])[:, None, None], (1, n, 1, 1)),
    jnp.ones((2, n), bool),
    noise,
    **CONFIDENT | dict(target="random"),
  )
  loss = np.asarray(loss)[:, 0] / LN2
  assert abs(loss.mean() - bits.mean()) < 4 * bits.std() / np.sqrt(n)
  for b in bits:
    assert abs(np.isclose(loss, b, atol=1e-4).mean() - 1 / 3) < 4 * np.sqrt(2 / 9 / n)


def test_random_target_draws_each_sample_and_level_separately():
  """The candidate with the largest noise wins, whatever its confidence."""
  p = jnp.array([[[0.9, 0.1], [0.9, 0.1]], [[0.5, 0.5], [0.5, 0.5]]])[:, None]  # [J, U, m, C]
  p = jnp.tile(p, (1, 2, 1, 1))
  noise = jnp.array([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [1.0, 0.0]]])  # [J, U, m]
  chosen = mhd.choose_target(p, there(p), noise, target="random", confidence="max")
  near(chosen[..., 0], [[0.9, 0.5], [0.5, 0.9]])


# Identities


def test_without_teachers_a_head_learns_its_own_main_head():
  """U5: at the optimum the loss is the main head's entropy; no gradient reaches the main head."""
  with jax.enable_x64(True):
    main = jnp.array([[1.0, -2.0, 0.5]])

    def loss(main, head):
      logits = jnp.stack([main, head], axis=1)
      absent = jnp.array([[[[1.0, 0.0, 0.0]]]])
      noise = jnp.zeros((2, 1, 1))
      return aux_losses(logits, absent, there(absent, False), noise, **CONFIDENT).sum()

    p = np.exp(main) / np.exp(main).sum()
    value, (to_main, to_head) = jax.value_and_grad(loss, (0, 1))(main, main)
    np.testing.assert_allclose(value, -(p * np.log(p)).sum(), rtol=1e-12)
    np.testing.assert_allclose(to_head, np.zeros_like(p), atol=1e-15)
    chex.assert_trees_all_equal(to_main, jnp.zeros_like(main))
    other = jnp.array([[0.0, 0.0, 0.0]])
    value, (to_main, to_head) = jax.value_and_grad(loss, (0, 1))(main, other)
    np.testing.assert_allclose(value, np.log(3.0), rtol=1e-12)
    np.testing.assert_allclose(to_head, 1 / 3 - p, rtol=1e-12)  # softmax(head) - target
    chex.assert_trees_all_equal(to_main, jnp.zeros_like(main))


def test_one_teacher_without_self_is_the_naive_loss():
  """U6: Eq. 4 becomes Eq. 3."""
  logits, teachers, noise = random_case(D=1, m=1)
  valid = there(teachers)
  gated = CONFIDENT | dict(include_self=False)
  naive = CONFIDENT | dict(target="all")
  chex.assert_trees_all_equal(
    aux_losses(logits, teachers, valid, noise, **gated),
    aux_losses(logits, teachers, valid, noise, **naive),
  )


@pytest.mark.parametrize("confidence", ["max", "entropy", "margin"])
def test_the_target_is_as_confident_as_the_best_candidate(confidence):
  """U7."""
  _, p, noise = random_case(D=4, U=16)
  valid = jnp.array([True, True, False, True])
  chosen = mhd.choose_target(p, there(p, valid), noise, target="confident", confidence=confidence)
  measure = losses.CONFIDENCES[confidence]
  chex.assert_trees_all_equal(measure(chosen), measure(p[np.array([0, 1, 3])]).max(0))


def test_selection_among_identical_checkpoints_changes_nothing():
  """U7: teachers with the student's own weights."""
  logits, _, noise = random_case(D=2)
  teachers = jnp.tile(mhd.predictions(logits, 2), (2, 1, 1, 1))
  variants = ({}, dict(target="random"), dict(include_self=False), dict(confidence="margin"))
  values = [aux_losses(logits, teachers, there(teachers), noise, **CONFIDENT | v) for v in variants]
  own = losses.soft_cross_entropy(mhd.predictions(logits, 2), logits[:, 1:])
  chex.assert_trees_all_close(*values, own, rtol=1e-6)


@pytest.mark.parametrize("target", ["confident", "random", "all"])
@pytest.mark.parametrize("skip", [False, True])
def test_targets_receive_no_gradient(target, skip):
  logits, teachers, noise = random_case()
  arguments = CONFIDENT | dict(target=target, skip_confident=skip)

  def loss(logits, teachers):
    return aux_losses(logits, teachers, there(teachers), noise, **arguments).sum()

  to_logits, to_teachers = jax.grad(loss, (0, 1))(logits, teachers)
  chex.assert_trees_all_equal(to_teachers, jnp.zeros_like(teachers))
  chex.assert_trees_all_equal(to_logits[:, 0], jnp.zeros_like(logits[:, 0]))  # own main head
  assert (np.abs(to_logits[:, 1:]).max((0, 2)) > 0.01).all()


def test_a_head_is_no_target_of_its_gradient():
  """Aux1 is the target of aux2: what aux2 costs sends no gradient into aux1."""
  logits, teachers, noise = random_case()
  loss = lambda logits: aux_losses(logits, teachers, there(teachers, False), noise, **CONFIDENT)[
    :, 1
  ].sum()
  gradient = jax.grad(loss)(logits)
  chex.assert_trees_all_equal(gradient[:, :2], jnp.zeros_like(gradient[:, :2]))
  assert np.abs(gradient[:, 2]).max() > 0.01
