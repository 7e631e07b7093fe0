"""Clients whose numbers stop being finite, by method and policy, and what teachers say then."""

import chex
import ensembles
import jax
import numpy as np
import pytest

from kdjax import api
from kdjax.core import health
from kdjax.data import dataset
from kdjax.data.sources import ExampleSet, Source
from kdjax.testing import small
from kdjax.training.stepper import Stepper
from kdjax.types import TrainingError

FEATURES = 36
VICTIM = 2  # of the holders of data; of async edge, in whose first round an edge is visited, 1
METHODS = [m for m in ensembles.METHODS if m not in ("mhd two passes", "fedavg reset")]


def features(source):
  """The same examples as rows of features, which can be anything."""
  rows = lambda s: (s.array.reshape(len(s.labels), -1) / 255).astype(np.float32)
  table = lambda s: ExampleSet(s.labels, s.strata, (FEATURES,), rows(s), None)
  return Source(source.name, table(source.train), table(source.test), source.classes)


def build(method, fault, poison=None, **changes):
  """A small experiment; `poison`: what stands in place of the victim's private examples."""
  c = ensembles.config(method, dtype="float32", **changes)
  c.source_info = dict(c.source_info, image=(FEATURES,))
  c.normalise = dict(mean=(0.5,), std=(0.5,))
  c.faults.client = fault
  c.log_every = 1
  source, shards = small.data(sum(n for n, *_ in c.clients))
  source = features(source)
  if poison is not None:
    source.train.array[shards.private[victim(method)]] = poison
  return small.build(c, data_=(source, shards))


def rows(state, keep):
  """What belongs to the clients for whom `keep`, and to the server."""
  whole = jax.device_get(state)
  chosen = lambda tree, mask: jax.tree.map(lambda x: x[mask], tree)
  clients = [chosen(c, m) for c, m in zip(whole.clients, keep, strict=True)]
  local = [chosen(own, m) for own, m in zip(whole.local, keep, strict=True)]
  return clients, local, whole.server


def replace(state, other, who):
  """A state in which the clients `who`, bool a cohort, are those of another."""
  put = lambda mask: (
    lambda old, new: jax.numpy.where(jax.numpy.expand_dims(mask, range(1, old.ndim)), new, old)
  )
  clients = tuple(
    jax.tree.map(put(m), c, o) for c, o, m in zip(state.clients, other.clients, who, strict=True)
  )
  return state._replace(clients=clients)


def victim(method):
  """The holder of data who gets what are no numbers."""
  return 1 if method == "async edge" else VICTIM


def first_call(e, method):
  """The first call of the second visit in which the victim trains; of the first, if it is one."""
  training = [v for v in e.visits if v.phase.feed and v.phase.feed.private]
  owner = lambda v: v.phase.feed.owner(v.round, 1) if v.phase.feed.owner else VICTIM
  moves = [v for v in training if v.phase.name != "upload" and owner(v) == victim(method)]
  return moves[min(1, len(moves) - 1)].start


@pytest.mark.parametrize("fault", ["reset", "freeze"])
@pytest.mark.parametrize("method", METHODS)
def test_nothing_of_a_client_that_is_not_finite_reaches_another(method, fault):
  """One call on data that are not numbers: the others go on as if it had not taken that step."""
  e, bad = build(method, fault), build(method, fault, poison=np.nan)
  call, stepper = first_call(e, method), Stepper(e)
  clean, dirty = stepper.tables, Stepper(bad).tables
  before, _ = small.train(e, calls=call, stepper=stepper)
  copy = jax.tree.map(lambda x: x.copy(), before)
  stepper.tables = dirty
  hurt, _ = small.train(e, before, calls=call + 1, stepper=stepper)
  stepper.tables = clean
  well, _ = small.train(e, copy, calls=call + 1, stepper=stepper)
  who = tuple(np.asarray(c.health.since) == call for c in hurt.clients)
  assert sum(m.sum() for m in who) in (1, 2)  # the victim; of async edge, both models that visit it
  assert all(
    int(c.health.faults[m].sum()) == m.sum() for c, m in zip(hurt.clients, who, strict=True)
  )
  ended = [small.train(e, s, stepper=stepper)[0] for s in (hurt, replace(well, hurt, who))]
  others = [rows(s, tuple(~m for m in who)) for s in ended]
  chex.assert_trees_all_equal(*others)
  chex.assert_tree_all_finite(jax.device_get(ended[0]._replace(step=0)))


@pytest.mark.parametrize("method", METHODS)
def test_a_frozen_client_stays_as_it_was_and_is_heard_by_nobody(method):
  """Its numbers at the end are those before the step that was not finite."""
  e, bad = build(method, "freeze"), build(method, "freeze", poison=np.inf)
  call, stepper = first_call(e, method), Stepper(bad)
  stepper.tables = Stepper(e).tables
  before, _ = small.train(bad, calls=call, stepper=stepper)
  kept = jax.device_get(before.clients)
  stepper.tables = Stepper(bad).tables
  state, _ = small.train(bad, before, stepper=stepper)
  travels = method == "async edge"  # a frozen model starts anew wherever it is sent
  for old, new in zip(kept, jax.device_get(state.clients), strict=True):
    silent = new.health.since >= 0
    assert (new.health.faults[silent] == 1).all()  # it is never asked again
    if not travels:
      one = lambda tree, m=silent: jax.tree.map(lambda x: x[m], tree)
      chex.assert_trees_all_equal(*(one((c.params, c.model_state)) for c in (old, new)))
  chex.assert_tree_all_finite(jax.device_get(state._replace(step=0)))


# What teachers say


def huge(state, k):
  """A state in which client k's weights are finite, and nothing that it says is."""
  where = [k if len(c.health.since) > k else -1 for c in state.clients]
  blow = lambda x: x.at[k].set(3e38) if k < len(x) else x
  assert where[0] == k
  clients = (state.clients[0]._replace(params=jax.tree.map(blow, state.clients[0].params)),)
  return state._replace(clients=clients)


@pytest.mark.parametrize("method", ["mhd fresh", "mhd two passes", "fedmd", "kd", "pairwise"])
def test_what_is_not_a_number_is_not_taken_in(method):
  """A teacher whose weights are finite and whose answers are not; beside one that is silent."""
  changes = dict(algo_teachers=3) if method.startswith("mhd") else {}
  graph = dict(kind="complete", every=0, island=2, degree=2, edges=(), seed=0)
  e = build(method, "freeze", graph=graph, **changes)
  stepper = Stepper(e)
  half, _ = small.train(e, calls=e.visits[-1].start // 2, stepper=stepper)
  loud = huge(half, VICTIM)
  since = loud.clients[0].health.since.at[VICTIM].set(0)
  copy = jax.tree.map(lambda x: x.copy(), loud)
  quiet = copy._replace(
    clients=(copy.clients[0]._replace(health=copy.clients[0].health._replace(since=since)),)
  )
  ends = [small.train(e, s, stepper=stepper)[0] for s in (loud, quiet)]
  keep = (np.arange(4) != VICTIM,)
  drop = lambda r: [c._replace(health=()) for c in r[0]]  # one counts what it refused
  chex.assert_trees_all_equal(*(drop(rows(s, keep)) for s in ends))
  if method.startswith("mhd"):  # elsewhere it falls silent before anybody asks it
    refused = [jax.device_get(s.clients[0].health.refused)[keep[0]] for s in ends]
    assert (refused[0] > 0).all() and (refused[1] == refused[1].min()).all()


def test_a_pool_of_what_cannot_be_is_an_empty_pool():
  """Snapshots that say nothing finite, of clients that are not there, of a time to come."""
  e = build("mhd pool", "reset", algo_refresh_every=1000, steps=6)
  stepper = Stepper(e)
  half, _ = small.train(e, calls=3, stepper=stepper)
  ends = []
  for change in (
    lambda p: p._replace(peer=p.peer * 0 - 1),
    lambda p: p._replace(flat=p.flat * 0 + 3e38),
    lambda p: p._replace(peer=p.peer * 0 + 99),
    lambda p: p._replace(born=p.born + 10**6),
  ):
    copy = jax.tree.map(lambda x: x.copy(), half)
    state = copy._replace(local=tuple(map(change, copy.local)))
    ends.append(jax.device_get(small.train(e, state, stepper=stepper)[0].clients[0].params))
  for other in ends[1:]:
    chex.assert_trees_all_equal(ends[0], other)


def test_what_is_a_distribution():
  p = np.array([[0.5, 0.5], [0.4, 0.2], [0.7, 0.7], [1.5, -0.5], [np.nan, 0.1], [np.inf, 0.0]])
  assert health.distributions(p).tolist() == [True, True, False, False, False, False]


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf, 1e38])
def test_gradients_that_an_optimiser_must_not_see(number):
  """Weights move by finite gradients alone, whatever stands beside them in the same array."""
  grads = {"w": np.array([1.0, number, -2.0], np.float32)}
  taken = health.clean(jax.numpy.array(True), grads)["w"]
  np.testing.assert_array_equal(taken, [1, 0, -2])
  np.testing.assert_array_equal(health.clean(jax.numpy.array(False), grads)["w"], [0, 0, 0])


# A run


def poisoned(tmp_path, fault, **more):
  """A run whose third client has private examples that are no numbers."""
  c = api.get_config(ensembles.config("separate", dtype="float32", steps=12), **more)
  with c.unlocked():
    c.source_info = dict(c.source_info, image=(FEATURES,))
    c.faults.client, c.log_every, c.save_every = fault, 5, 4
  source, shards = small.data(4)
  source = features(source)
  source.train.array[shards.private[VICTIM]] = np.nan
  from kdjax import experiment

  data = dataset.Data(source, source.train, shards)
  return experiment.build(c, data=data, devices=jax.devices()[:1])


@pytest.mark.parametrize("fault, steps", [("reset", 12), ("freeze", 1)])
def test_a_run_names_the_client_and_goes_on(tmp_path, capsys, fault, steps):
  from kdjax.core import files
  from kdjax.report import table
  from kdjax.training import loop, writer

  assert loop.run(poisoned(tmp_path, fault), tmp_path, command="again") == loop.DONE
  assert "client 2 was not finite at step 1" in capsys.readouterr().err
  summary = files.read_json(tmp_path / "summary.json")
  assert summary["faults"] == [{"client": 2, "step": 1, "steps": steps}]
  faults = [line for line in writer.read_metrics(tmp_path) if line["phase"] == "fault"]
  assert [(line["client"], line["since"]) for line in faults] == [(2, 1)]
  losses = [line["loss"] for line in writer.read_metrics(tmp_path) if "loss" in line]
  assert np.isfinite(losses).all() and len(losses) >= 2
  said = "client 2 was not finite at step 1, the first one"
  assert said in " ".join(table.closing_table(tmp_path).split())


def test_a_run_can_end_for_it_and_go_on_with_another_policy(tmp_path):
  from kdjax.training import loop

  with pytest.raises(TrainingError, match="client 2 was not finite at step 1, the first of 1"):
    loop.run(poisoned(tmp_path, "stop"), tmp_path, command="again")
  assert loop.run(poisoned(tmp_path, "reset"), tmp_path, command="again") == loop.DONE


def test_a_state_that_is_not_finite_is_not_saved(tmp_path):
  from kdjax.training import checkpoint, loop, writer

  e = build("separate", "reset")
  run = loop.TrainingRun(e, tmp_path, checkpoint.Checkpoints(tmp_path), writer.Silent())
  state = huge(e.initialiser()(), 1)
  run.save(state, 1)
  infinite = jax.tree.map(lambda x: x * np.inf, state.clients[0].params)
  broken = state.clients[0]._replace(params=infinite)
  with pytest.raises(TrainingError, match="client 0 is not finite at step 2"):
    run.save(state._replace(clients=(broken,)), 2)
  run.checkpoints.close()
  assert checkpoint.saved_steps(tmp_path) == [1]


def test_where_nobody_can_go_on_the_run_ends(tmp_path):
  from kdjax.training import loop

  c = ensembles.config("separate", dtype="float32", steps=12)
  c.optim.lr, c.optim.clip = 3e38, 0.0
  with pytest.raises(TrainingError, match="no client's loss is finite at step"):
    loop.run(small.build(c), tmp_path, command="again")
