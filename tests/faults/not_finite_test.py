"""Clients whose numbers stop being finite, by method and policy, and what teachers say then."""

import types

import chex
import ensembles
import jax
import numpy as np
import pytest
from helpers import usually

from kdjax import api, experiment
from kdjax.core import files, health
from kdjax.data import dataset
from kdjax.ending import DONE, STOPPED
from kdjax.report import table
from kdjax.testing import faults, small
from kdjax.training import checkpoint, loop, loss_log, run_folder, stretch, writer
from kdjax.training import faults as not_finite
from kdjax.training.stepper import Stepper
from kdjax.types import TrainingError

VICTIM = 2
FAULTY = "had a loss, gradient or statistic that was not finite"
FAMILIES = ("separate", "fedavg", "mhd fresh", "mhd pool", "fedmd", "kd", "gossip average")
FAMILIES += ("gossip admm", "fedgkt", "pairwise", "pairwise as_coded")


def build(method, fault, poison=None, **changes):
  """A small experiment, see `testing.faults.build`."""
  return faults.build(ensembles.METHODS[method], fault, poison, **changes)


OFTEN = ("mhd pool", "fedgkt", "pairwise", "fedavg")


@pytest.mark.parametrize("method", usually(OFTEN, FAMILIES))
def test_a_frozen_client_stays_as_it_was_and_is_heard_by_nobody(method):
  """Its numbers at the end are those before the step that was not finite."""
  e, bad = build(method, "freeze"), build(method, "freeze", poison=np.inf)
  call, stepper = faults.first_fault(e, bad), Stepper(bad)
  foul, stepper.tables = stepper.tables, Stepper(e).tables
  before, _ = small.train(bad, calls=call, stepper=stepper)
  kept = jax.device_get(before.clients[0])
  stepper.tables = foul
  new = jax.device_get(small.train(bad, before, stepper=stepper)[0].clients[0])
  assert new.health.since.tolist() == [call if k == VICTIM else -1 for k in range(4)]
  assert new.health.faults[VICTIM] == 1  # it is never asked again
  own = lambda c: jax.tree.map(lambda x: x[VICTIM], (c.params, c.model_state))
  chex.assert_trees_all_equal(own(kept), own(new))


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
  chex.assert_trees_all_equal(*(drop(faults.rows(s, keep)) for s in ends))
  if method.startswith("mhd"):  # elsewhere it falls silent before anybody asks it
    refused = [jax.device_get(s.clients[0].health.refused)[keep[0]] for s in ends]
    assert (refused[0] > 0).all() and (refused[1] == refused[1].min()).all()


EXCHANGES = {"fedavg": "average", "gossip average": "meet", "gossip admm": "meet"}
EXCHANGES |= {"kd": "fetch", "pairwise": "fetch"}


@pytest.mark.parametrize("method", EXCHANGES)
def test_a_model_that_is_not_finite_is_none(method):
  """Whatever sends one is passed over, in every exchange of a run, as one that is silent is."""
  graph = dict(kind="complete", every=0, island=2, degree=2, edges=(), seed=0)
  more = dict(steps=24) if method.startswith("gossip") else {}  # until each edge has woken
  e = build(method, "freeze", graph=graph, **more)
  stepper, keep, differs = Stepper(e), (np.arange(4) != VICTIM,), 0
  for visit in e.visits:
    if visit.phase.name != EXCHANGES[method]:
      continue
    before, _ = small.train(e, calls=visit.start, stepper=stepper)
    loud, quiet, well = (jax.tree.map(lambda x: x.copy(), before) for _ in range(3))
    (c,) = loud.clients
    broken = jax.tree.map(lambda x: x.at[VICTIM].set(np.inf), c.params)
    loud = loud._replace(clients=(c._replace(params=broken),))
    (c,) = quiet.clients
    silent = c.health._replace(since=c.health.since.at[VICTIM].set(0))
    quiet = quiet._replace(clients=(c._replace(health=silent),))
    ends = [
      small.train(e, s, calls=visit.start + 1, stepper=stepper)[0] for s in (loud, quiet, well)
    ]
    found = [faults.rows(s, keep) for s in ends]
    if method == "kd" or method == "pairwise":  # what nobody's copy holds is ignored
      found = [(r[0], jax.tree.leaves(r[1])[1]) for r in found]
    chex.assert_trees_all_equal(found[0], found[1])
    chex.assert_tree_all_finite(found[0])
    differs += any(
      (x != y).any() for x, y in zip(*map(jax.tree.leaves, (found[0], found[2])), strict=True)
    )
  assert differs  # it would have been heard


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
  taken = health.safe_gradients(jax.numpy.array(True), grads)["w"]
  np.testing.assert_array_equal(taken, [1, 0, -2])
  np.testing.assert_array_equal(
    health.safe_gradients(jax.numpy.array(False), grads)["w"], [0, 0, 0]
  )


# A run


def poisoned(tmp_path, fault, **more):
  """A run whose third client has private examples that are no numbers."""
  c = api.get_config(ensembles.config("separate", dtype="float32", steps=12), **more)
  with c.unlocked():
    c.source_info = dict(c.source_info, image=(faults.FEATURES,))
    c.faults.client, c.log_every, c.save_every = fault, 5, 4
  source, shards = small.data(4)
  source = faults.features(source)
  source.train.array[shards.private[VICTIM]] = np.nan
  data = dataset.Data(source, source.train, shards)
  return experiment.build(c, data=data, devices=jax.devices()[:1])


@pytest.mark.parametrize("fault, steps", [("reset", 12), ("freeze", 1)])
def test_a_run_names_the_client_and_goes_on(tmp_path, capsys, fault, steps):
  assert loop.run(poisoned(tmp_path, fault), tmp_path, command="again") == DONE
  assert f"client 2 {FAULTY} at step 1:" in capsys.readouterr().err
  summary = files.read_json(tmp_path / "summary.json")
  assert summary["faults"] == [{"client": 2, "step": 1, "steps": steps}]
  said = [line for line in writer.read_metrics(tmp_path) if line["phase"] == "fault"]
  assert [(line["client"], line["since"]) for line in said] == [(2, 1)]
  losses = [line["loss"] for line in writer.read_metrics(tmp_path) if "loss" in line]
  assert np.isfinite(losses).all() and len(losses) >= 2
  said = f"client 2 {FAULTY} at step 1, the first such client"
  assert said in " ".join(table.closing_table(tmp_path).split())


def test_a_fault_in_the_last_step_before_a_stop_is_told_once(tmp_path, capsys):
  """And so is one in the last step of all: the log is that of a run that was not stopped."""
  logs = []
  for name, stops in (("whole", []), ("cut", [True])):
    e = poisoned(tmp_path, "reset", **{"mesh.steps_per_dispatch": 1})
    run = lambda e=e, name=name, stops=stops: loop.run(
      e, tmp_path / name, command="again", stop=lambda: bool(stops and stops.pop())
    )
    assert [run() for _ in range(1 + len(stops))] == [STOPPED, DONE][-1 - len(logs) :]
    assert capsys.readouterr().err.count(f"client 2 {FAULTY} at step 1:") == 1
    lines = writer.read_metrics(tmp_path / name)
    logs.append(
      [{k: v for k, v in x.items() if not k.startswith(("images", "input"))} for x in lines]
    )
  assert logs[0] == logs[1]
  assert logs[0][0] == {"step": 1, "phase": "fault", "client": 2, "since": 1}
  one = poisoned(tmp_path, "reset", steps=1)
  assert loop.run(one, tmp_path / "one", command="again") == DONE
  assert logs[0][0] in writer.read_metrics(tmp_path / "one")


def test_a_run_can_end_for_it_and_go_on_with_another_policy(tmp_path):
  with pytest.raises(TrainingError, match=f"client 2 {FAULTY} at step 1, the first of 1"):
    loop.run(poisoned(tmp_path, "stop"), tmp_path, command="again")
  assert loop.run(poisoned(tmp_path, "reset"), tmp_path, command="again") == DONE


def test_a_run_ends_where_all_have_fallen_silent(tmp_path):
  c = api.get_config(ensembles.config("separate", dtype="float32", steps=100_000))
  with c.unlocked():
    c.normalise = dict(mean=(0.5,), std=(1e-39,))  # 0 in float32
    c.faults.client, c.log_every = "freeze", 5
  with pytest.raises(TrainingError, match=f"client 0 {FAULTY} at step 1, the first of 4"):
    loop.run(small.build(c), tmp_path, command="again")


def test_a_process_rests_when_its_own_clients_are_silent():
  """Each knows of those on its devices; one without any has nothing to wait for."""
  env = types.SimpleNamespace(
    cohorts=(types.SimpleNamespace(ids=(0, 1)), types.SimpleNamespace(ids=(2,)))
  )
  visits = small.build(ensembles.config("separate", dtype="float32", steps=12)).visits
  own = lambda *since: tuple({"since": jax.numpy.array(x)} for x in since)
  watch = not_finite.FaultMonitor(env, visits)
  assert not watch.all_frozen  # no step has run
  for aux, all_frozen in ((own([-1, 0], [2]), False), (own([3, 0], [2]), True)):
    watch.note(aux)
    watch.note(None)  # a phase without a batch, and without aux: what was waited for is looked at
    assert watch.all_frozen is all_frozen
  elsewhere = types.SimpleNamespace(addressable_shards=[], is_fully_addressable=False)
  watch = not_finite.FaultMonitor(env, visits)
  watch.note(({"since": elsewhere}, {"since": elsewhere}))
  watch.note(())
  assert watch.all_frozen


@pytest.mark.parametrize("answers", ["before", "apart"])
def test_a_server_that_cannot_take_a_step_is_named(tmp_path, capsys, answers):
  """Its weights are finite and its losses are not."""
  e = build("fedgkt", "stop", algo_answers=answers)
  state = e.init()
  network = state.server.network
  network = network._replace(params=jax.tree.map(lambda x: x * 0 + 3e38, network.params))
  state = state._replace(server=state.server._replace(network=network))
  watch, stepper = not_finite.FaultMonitor(e.env, e.visits), Stepper(e)
  named = []
  for dispatch in stepper.dispatches(0):
    state, aux = stepper.run(state, dispatch)
    named += watch.note(aux)
  found, _ = not_finite.faults(e.env, e.visits, state)
  (fault,) = (one for one in found if one.kind == "server")  # clients cannot learn from it either
  assert fault.number == 0 and fault.steps > 1 and watch.stops
  assert [one.step for one in named if one.kind == "server"] == [fault.step]
  log = writer.Writer(tmp_path, resume_step=None)
  with log:
    not_finite.report(fault, "stop", log, 3)
  assert f"replica 0's server {FAULTY} at step" in capsys.readouterr().err
  (line,) = writer.read_metrics(tmp_path)
  assert line == {"step": 3, "phase": "fault", "server": 0, "since": fault.step}
  with pytest.raises(TrainingError, match=f"{FAULTY} at step"):
    not_finite.check(e.env, e.visits, state)


def test_a_state_that_is_not_finite_is_not_saved(tmp_path):
  e = build("separate", "reset")
  run = stretch.Stretch(e, tmp_path, checkpoint.Checkpoints(tmp_path), writer.Silent())
  state = huge(e.init(), 1)
  run.save(state, 1)
  infinite = jax.tree.map(lambda x: x * np.inf, state.clients[0].params)
  broken = state.clients[0]._replace(params=infinite)
  with pytest.raises(TrainingError, match="client 0 is not finite at step 2"):
    run.save(state._replace(clients=(broken,)), 2)
  counted = {"seen": jax.numpy.array([1.0, 2.0, np.inf, 4.0])}
  with pytest.raises(TrainingError, match="entry of client 2 in `TrainState.local`"):
    run.save(state._replace(local=(counted,)), 2)
  run.checkpoints.close()
  assert run_folder.steps(tmp_path) == [1]


def said(live, failed, since):
  """What two clients say of a logged step."""
  arrays = {"live": live, "failed": failed, "since": since, "loss": [np.nan, np.nan]}
  return ({name: np.array(x) for name, x in arrays.items()},)


def test_a_step_that_nobody_could_take_ends_no_run_by_itself():
  """Ten logged ones in a row do, and the very first one."""
  env = types.SimpleNamespace(cohorts=(types.SimpleNamespace(ids=(0, 1)),))
  none, some = said([0, 0], [1, 1], [3, 9]), said([1, 0], [0, 1], [3, 9])
  some[0]["loss"] = np.array([1.0, np.nan])
  logged = lambda losses: loss_log._Losses("train", 20, losses, None, 0.0, 0, {})
  log = loss_log.LossLog(env, writer.Silent(), None)
  for losses in [none] * 9 + [some] + [none] * 9:
    log._means(logged(losses))
  with pytest.raises(TrainingError, match="no client's loss is finite at step 20"):
    log._means(logged(none))
  log = loss_log.LossLog(env, writer.Silent(), None)
  with pytest.raises(TrainingError, match="no client's loss is finite at step 20"):
    log._means(logged(said([0, 0], [1, 1], [0, 0])))


def test_where_nobody_can_go_on_the_run_ends(tmp_path):
  c = ensembles.config("separate", dtype="float32", steps=12)
  c.normalise = dict(mean=(0.5,), std=(1e-39,))  # 0 in float32
  with pytest.raises(TrainingError, match="no client's loss is finite at step"):
    loop.run(small.build(c), tmp_path, command="again")
