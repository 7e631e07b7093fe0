"""Optimisers and schedules by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import optim
from kdjax.types import ConfigError

PARAMS = {"dense": {"kernel": jnp.array([[1.0, 2.0]]), "bias": jnp.array([10.0])}}
# Global norm 5: clipping at 1 leaves (.6, 0) and .8.
GRADS = {"dense": {"kernel": jnp.array([[3.0, 0.0]]), "bias": jnp.array([4.0])}}
SGD = dict(momentum=0.9, nesterov=False, weight_decay=0.1, clip=1.0)
ADAM = dict(b1=0.9, b2=0.999, eps=0.1, amsgrad=False, weight_decay=0.0, clip=0.0)
SCHEDULE = dict(lr=0.1, schedule="cosine", warmup=0)


def updates(tx, *grads, params=PARAMS):
  """Updates of the last of several steps, at constant parameters: (kernel, bias)."""
  state = tx.init(params)
  for g in grads:
    out, state = tx.update(g, state, params)
  return np.asarray(out["dense"]["kernel"])[0], np.asarray(out["dense"]["bias"])


def near(value, expected):
  np.testing.assert_allclose(value, expected, rtol=5e-5)


def test_sgd_clips_then_decays_kernels_then_adds_momentum():
  tx = optim.sgd(**SGD)
  kernel, bias = updates(tx, GRADS)
  near(kernel, [0.7, 0.2])  # (.6, 0) + .1 (1, 2)
  near(bias, [0.8])  # no decay
  kernel, bias = updates(tx, GRADS, GRADS)
  near(kernel, [1.33, 0.38])  # 1.9 times the first: decay is part of the momentum
  near(bias, [1.52])


def test_sgd_leaves_small_gradients_unclipped():
  kernel, bias = updates(optim.sgd(**SGD | dict(clip=6.0, weight_decay=0.0)), GRADS)
  near(kernel, [3.0, 0.0])
  near(bias, [4.0])


def test_clip_0_clips_nothing():
  near(updates(optim.sgd(**SGD | dict(clip=0.0)), GRADS)[0], [3.1, 0.2])


def test_nesterov_looks_ahead():
  kernel, _ = updates(optim.sgd(**SGD | dict(nesterov=True)), GRADS)
  near(kernel, [1.33, 0.38])  # g + .9 g


def test_decay_spares_whatever_is_no_kernel():
  params = {
    "norm": {"scale": jnp.array([2.0]), "bias": jnp.array([3.0])},
    "kernel": jnp.array([4.0]),
  }
  zero = {"norm": {"scale": jnp.zeros(1), "bias": jnp.zeros(1)}, "kernel": jnp.zeros(1)}
  tx = optim.sgd(**SGD)
  out, _ = tx.update(zero, tx.init(params), params)
  assert out["norm"]["scale"] == 0 and out["norm"]["bias"] == 0
  near(out["kernel"], [0.4])


def test_adam_clips_then_decays_then_scales():
  kernel, bias = updates(optim.adam(**ADAM | dict(weight_decay=0.1, clip=1.0)), GRADS)
  # First step: g / (|g| + eps) with g = (.7, .2) and .8.
  near(kernel, [0.7 / 0.8, 0.2 / 0.3])
  near(bias, [0.8 / 0.9])


@pytest.mark.parametrize("amsgrad, expected", [(False, 0.587020), (True, 0.430622)])
def test_second_step_of_adam(amsgrad, expected):
  """Gradients 1, then 0.

  m = .9 * .1 = .09, over 1 - .9^2 = .19: .473684. v = .999 * .001, over 1 - .999^2: .499750, its
  root .706930. Adam: .473684 / (.706930 + .1). AMSGrad keeps v = 1 of the first step: over 1.1.
  """
  one = {"dense": {"kernel": jnp.ones((1, 2)), "bias": jnp.ones(1)}}
  zero = {"dense": {"kernel": jnp.zeros((1, 2)), "bias": jnp.zeros(1)}}
  kernel, bias = updates(optim.adam(**ADAM | dict(amsgrad=amsgrad)), one, zero)
  near(kernel, [expected] * 2)
  near(bias, [expected])


def test_the_optimiser_holds_no_learning_rate():
  tx, lr = optim.make(name="sgd", **SGD | dict(momentum=0.0), **SCHEDULE)
  near(updates(tx, GRADS)[1], [0.8])
  assert lr(0, 100) == 0.1


@pytest.mark.parametrize(
  "schedule, warmup, total, values",
  [
    ("constant", 0, 10, {0: 0.1, 9: 0.1}),
    ("constant", 4, 10, {0: 0.025, 1: 0.05, 3: 0.1, 4: 0.1, 9: 0.1}),
    # .1 (1 + cos(pi / 4)) / 2 = .0853553
    ("cosine", 0, 100, {0: 0.1, 25: 0.0853553, 50: 0.05, 75: 0.0146447, 100: 0.0, 120: 0.0}),
    ("cosine", 10, 110, {0: 0.01, 4: 0.05, 9: 0.1, 10: 0.1, 35: 0.0853553, 60: 0.05, 110: 0.0}),
    ("cosine", 0, 1, {0: 0.1}),
  ],
)
def test_schedules(schedule, warmup, total, values):
  _, lr = optim.make(name="sgd", **SGD, lr=0.1, schedule=schedule, warmup=warmup)
  for count, value in values.items():
    assert lr(count, total) == pytest.approx(value, rel=1e-5, abs=1e-12)


STEPS = dict(lr=0.1, schedule="multistep", warmup=0, milestones=(0.5, 0.75), factor=0.1)


@pytest.mark.parametrize(
  "changes, total, values",
  [
    # 164 epochs of 40 batches: milestones after 82 and 123 of them
    ({}, 6560, {0: 0.1, 3279: 0.1, 3280: 0.01, 4919: 0.01, 4920: 0.001, 6559: 0.001}),
    (dict(milestones=(0.7,), factor=0.5), 10, {6: 0.1, 7: 0.05}),  # .7 * 10 is above 7 in floats
    (dict(milestones=(0.5,), warmup=4), 8, {0: 0.025, 3: 0.1, 4: 0.01}),
    (dict(milestones=()), 8, {0: 0.1, 7: 0.1}),
  ],
)
def test_multistep_falls_at_fractions_of_the_run(changes, total, values):
  tx, lr = optim.make(name="sgd", **SGD | STEPS | changes)
  for count, value in values.items():
    assert lr(count, total) == pytest.approx(value, rel=1e-12)
  near(updates(tx, GRADS)[1], [0.8])  # the optimiser's own arguments reach it


def test_what_multistep_cannot_be():
  for changes, key in (
    (dict(milestones=(0.75, 0.5)), "milestones"),
    (dict(milestones=(0.5, 0.5)), "milestones"),
    (dict(milestones=(82, 123)), "milestones"),
    (dict(factor=0.0), "factor"),
  ):
    with pytest.raises(ConfigError, match=f"^optim.{key} = "):
      optim.make(name="sgd", **SGD | STEPS | changes)
  for key in ("milestones", "factor"):  # they belong to this schedule alone, and it needs them
    rest = {k: v for k, v in STEPS.items() if k != key}
    with pytest.raises(ConfigError, match=f"optim.{key}.*is missing.*factor.*milestones"):
      optim.make(name="sgd", **SGD, **rest)
    with pytest.raises(ConfigError, match=f"optim.{key}.*is unknown"):
      optim.make(name="sgd", **SGD, **SCHEDULE | {key: STEPS[key]})


@pytest.mark.parametrize(
  "changes, key, value, word",
  [
    (dict(name="rmsprop"), "optim.name", "rmsprop", "sgd, adam"),
    (dict(schedule="step"), "optim.schedule", "step", "constant, cosine"),
    (dict(momentun=0.5), "optim.momentun", 0.5, "unknown"),
    (dict(b1=0.9), "optim.b1", 0.9, "unknown"),  # Adam's
    (dict(lr=-0.1), "optim.lr", -0.1, "not be negative"),
    (dict(warmup=-1), "optim.warmup", -1, "not be negative"),
    (dict(clip=-1.0), "optim.clip", -1.0, "not be negative"),
    (dict(weight_decay=-0.1), "optim.weight_decay", -0.1, "not be negative"),
    (dict(momentum=1.0), "optim.momentum", 1.0, "below 1"),
    (dict(momentum=-0.1), "optim.momentum", -0.1, "at least 0"),
  ],
)
def test_errors(changes, key, value, word):
  with pytest.raises(ConfigError, match=word) as error:
    optim.make(**dict(name="sgd") | SGD | SCHEDULE | changes)
  assert (error.value.key, error.value.value) == (key, value)


@pytest.mark.parametrize(
  "key, value", [("b1", 1.0), ("b2", -0.1), ("b2", 1.0), ("eps", 0.0), ("eps", -1e-8)]
)
def test_errors_of_adam(key, value):
  with pytest.raises(ConfigError, match=f"^optim.{key} = {value}: must"):
    optim.make(name="adam", **ADAM | SCHEDULE | {key: value})


@pytest.mark.parametrize("name, arguments", [("sgd", SGD), ("adam", ADAM)])
def test_a_missing_argument_is_named(name, arguments):
  for key in arguments:
    rest = {k: v for k, v in arguments.items() if k != key}
    with pytest.raises(ConfigError, match="is missing") as error:
      optim.make(name=name, **rest, **SCHEDULE)
    assert error.value.key == f"optim.{key}"
