"""A method that breaks the contract is named, with what is wrong, before any work."""

import ensembles
import jax.numpy as jnp
import pytest

import kdjax
from kdjax import experiment, plan
from kdjax.algorithms import separate
from kdjax.core.clients import check_objective
from kdjax.evals import _counting as counting
from kdjax.training import contract
from kdjax.types import ConfigError, Feed


def traced(monkeypatch, change):
  """Traces separate training on four clients whose Algorithm is changed."""
  method = separate.METHOD
  make = lambda env, hyper: change(method.make(env, hyper))
  monkeypatch.setattr(experiment, "find_method", lambda name: method._replace(make=make))
  e = ensembles.build(ensembles.config("separate", dtype="float32"))
  e.shapes()
  for visit in plan.first_visits(e):
    plan.trace(e, visit)
  counting.entries(e)


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


def predicted(change):
  """A change of the logits of the clients, a tuple over cohorts of [4, N, 1, 5]."""
  return lambda made: made._replace(
    predict=lambda state, images: change(made.predict(state, images)[""])
  )


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
  "phase 'train' runs a whole number of times": phase(steps=lambda round: 2.5),
  "steps is a float, not a whole number": phase(steps=2.0),
  "steps is None, whole epochs, but it has no feed": phase(steps=None, feed=None),
  "lr is a float, not a function": phase(lr=0.1),
  "bytes_sent is a dict, not a function": phase(bytes_sent={"weights": 3}),
  "args is a float, not a function": phase(args=0.5),
  "feed is a int, not a kdjax.types.Feed": phase(feed=32),
  "kind is 'epochs': must be 'stream' or 'epoch'": phase(feed=Feed(private=4, kind="epochs")),
  "feed's private is 4.5": phase(feed=Feed(private=4.5)),
  "feed's public is -1": phase(feed=Feed(private=4, public=-1)),
  "its feed has no examples": phase(feed=Feed()),
  "two phases are called 'train'": lambda made: made._replace(cycle=made.cycle * 2),
  "predict is None, not a function": lambda made: made._replace(predict=None),
  r"local.0. with a row for every client, .4, ...., not \[\]": lambda made: made._replace(
    init=lambda clients: (clients, (jnp.zeros(()),), ())
  ),
  "{} where there are none, not None": step(lambda state, aux: (state, (None,))),
  "predict must return {entry: logits}.* it returned a tuple of 1": predicted(lambda x: x),
  "must return {entry: logits}": predicted(lambda x: {}),
  "entry '' of its predict: 1 in a tuple, one for every cohort": predicted(lambda x: {"": x + x}),
  r"entry '' of its predict must be .1, 1, heads, 4., not .4, 1, 1, 4.": predicted(
    lambda x: {"": x[0]}
  ),
  r"entry 'me' of its predict must be .4, 1, heads, 4., not .4, 1, 4.": predicted(
    lambda x: {"me": (x[0][:, :, 0],)}
  ),
  r"those that could \('train'\) run 0 times in a round": phase(steps=0),
}


@pytest.mark.parametrize("words", WRONG)
def test_what_is_wrong_is_named(monkeypatch, words):
  with pytest.raises(ConfigError, match=words) as error:
    traced(monkeypatch, WRONG[words])
  assert error.value.key in ("algorithm", "algo", "steps")


def test_what_is_right_is_traced(monkeypatch):
  traced(monkeypatch, lambda made: made)


def test_what_an_objective_returns():
  """Forgotten statistics, or a loss that is not yet a share, are named with the objective."""
  one, statistics = jnp.zeros(()), {"batch_stats": {"mean": jnp.zeros(3)}}
  wrong = {
    "must return .share of the loss": (one, (one, {}, statistics), (one, statistics)),
    "the statistics that its last `apply` returned": ((one, ({}, None)), (one, ({}, {}))),
    r"must be one number, not \[8\]": ((jnp.zeros(8), ({}, statistics)),),
  }
  for words, given in wrong.items():
    for made in given:
      with pytest.raises(ConfigError, match=f"objective = 'predicted': .*{words}"):
        check_objective(predicted, made, statistics)
  check_objective(predicted, (one, ({"loss": one}, statistics)), statistics)


def test_facts_that_no_file_can_hold_are_named():
  with pytest.raises(ConfigError, match="facts 'model' cannot be written: .*object"):
    contract.check_facts("mine:METHOD", {"flops": jnp.arange(3), "model": object()})
  with pytest.raises(ConfigError, match="facts returns None, not a dict"):
    contract.check_facts("mine:METHOD", None)


def test_heads_are_names():
  """A text is a sequence of names too: 'main' would be the heads m, a, i and n."""
  with pytest.raises(ConfigError, match="heads returns 'main', not names in a tuple"):
    contract.check_heads("mine:METHOD", "main")


BEFORE = {
  "facts=lambda rounds: None": "facts returns None, not a dict",
  "predict=lambda state, images: {}": "predict must return {entry: logits}",
}


@pytest.mark.parametrize("n", range(len(BEFORE)))
def test_predictions_and_facts_are_asked_before_any_training(tmp_path, monkeypatch, n):
  """Both are needed when training is over, or well on its way: by then a mistake is dear."""
  change, words = list(BEFORE.items())[n]
  (tmp_path / f"late{n}.py").write_text(
    "from kdjax.algorithms import separate\n"
    f"make = lambda env, hyper: separate.make(env, hyper)._replace({change})\n"
    "METHOD = separate.METHOD._replace(make=make)\n"
  )
  monkeypatch.chdir(tmp_path)
  changes = dict(algorithm=f"late{n}:METHOD", algo={}, steps=1, replicas=1, compare=())
  config = kdjax.get_config("mhd_digits:separate", **changes)
  with pytest.raises(ConfigError, match=words):
    kdjax.train(config, tmp_path / "run")
  assert not (tmp_path / "run").exists()
