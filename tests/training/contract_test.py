"""A method that breaks the contract is named, with what is wrong, before any work."""

import ensembles
import jax.numpy as jnp
import pytest

from kdjax import experiment, plan
from kdjax.algorithms import separate
from kdjax.types import ConfigError


def traced(monkeypatch, change):
  """Traces separate training on four clients whose Algorithm is changed."""
  method = separate.METHOD
  make = lambda env, hyper: change(method.make(env, hyper))
  monkeypatch.setattr(experiment, "find_method", lambda name: method._replace(make=make))
  e = ensembles.build(ensembles.config("separate", dtype="float32"))
  e.shapes()
  for visit in plan.first_visits(e):
    plan.trace(e, visit)


def phase(**changes):
  """A change of the one phase of the cycle."""
  return lambda made: made._replace(cycle=(made.cycle[0]._replace(**changes),))


def step(change):
  """A change of what its step returns."""

  def changed(made):
    whole = made.cycle[0].step
    return phase(step=lambda *given: change(*whole(*given)))(made)

  return changed


def halved(state, aux):
  """Weights in another dtype than those that came."""
  (c,) = state.clients
  bias = c.params["Dense_0"]["bias"].astype(jnp.bfloat16)
  params = c.params | {"Dense_0": c.params["Dense_0"] | {"bias": bias}}
  return state._replace(clients=(c._replace(params=params),)), aux


WRONG = {
  "make returned None, not": lambda made: None,
  "cycle is a list of 1, not a tuple": lambda made: made._replace(cycle=list(made.cycle)),
  "init must return .* it returned a tuple of 1": lambda made: made._replace(init=lambda c: c),
  "step must return .TrainState, aux., not a TrainState": step(lambda state, aux: state),
  "every cohort, 1 in a tuple, not a dict": step(lambda state, aux: (state, aux[0])),
  r"one number per client, .4., as aux 'loss', not \[\]": step(
    lambda state, aux: (state, ({"loss": aux[0]["loss"].mean()},))
  ),
  r"clients.0..params.*'bias'. as float32.4, 8., not as bfloat16.4, 8.": step(halved),
  "local has the structure of the one": step(
    lambda state, aux: (state._replace(local=((1.0,),)), aux)
  ),
  "bytes_sent returns 7, not bytes by kind": phase(bytes_sent=lambda pos: 7),
  "lr returns None, not a float": phase(lr=lambda pos: None),
  "phase 'train' cannot run so often": phase(steps=-3),
  r"those that could \('train'\) run 0 times in a round": phase(steps=0),
}


@pytest.mark.parametrize("words", WRONG)
def test_what_is_wrong_is_named(monkeypatch, words):
  with pytest.raises(ConfigError, match=words) as error:
    traced(monkeypatch, WRONG[words])
  assert error.value.key in ("algorithm", "algo", "steps")


def test_what_is_right_is_traced(monkeypatch):
  traced(monkeypatch, lambda made: made)
