"""Clients that train apart: on a schedule they equal the fused step, without one nobody waits."""

import dataclasses
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import chex
import ensembles
import jax
import numpy as np
import pytest
from helpers import usually

import kdjax
from kdjax import api, experiment, main
from kdjax import flags as command_flags
from kdjax.data import dataset
from kdjax.ending import DONE, STOPPED
from kdjax.peers import Mail
from kdjax.training import lock, loop, resume, writer
from kdjax.training.stepper import Stepper
from kdjax.types import ConfigError

ROOT = Path(__file__).parent.parent.parent
SCHEDULE = dict(age=50, keep=0, wait_seconds=240.0, look_seconds=0.02)  # everyone waits
LOOSE = dict(age=50, keep=2, wait_seconds=0.0, look_seconds=0.02)
TWO = ((2, *ensembles.MLP), (1, *ensembles.WIDE))
CASES = {
  "mhd pool": (TWO, dict(steps=7, norm="batch", algo_nu_emb=0.0, algo_teachers=2)),
  "mhd published": (
    ((3, *ensembles.MLP),),
    dict(steps=7, algo_top_k=2, algo_teachers=2, algo_pool_start="empty"),
  ),
  "fedmd": (TWO, {}),
}


def config(name, **changes):
  clients, more = CASES[name]
  return ensembles.config(name, clients, **(more | changes))


def peer(name, own, folder, rules, devices=1, **changes):
  source, shards = ensembles.data(3)
  mail = Mail(str(folder), own, **rules)
  data = dataset.Data(source, source.train, shards)
  return api.peer(config(name, **changes), mail, data=data, devices=jax.devices()[:devices])


def at_once(*calls):
  """Runs functions in threads, in float64; returns what they return."""
  out = [None] * len(calls)

  def run(i):
    with jax.enable_x64(True):
      out[i] = calls[i]()

  threads = [threading.Thread(target=run, args=(i,)) for i in range(len(calls))]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  return out


def fused(name):
  e = ensembles.build(config(name), data_=ensembles.data(3))
  state, stepper = ensembles.train(e)
  return ensembles.by_client(e, state), stepper.evaluate(state)[0]


@pytest.mark.parametrize("name", usually(("mhd pool",), CASES))
def test_on_a_schedule_the_result_is_the_fused_steps(name, tmp_path):
  """One client, and two on two devices; one of them is killed, and goes on alone at the end."""

  def together():
    e = peer(name, (0, 1), tmp_path, SCHEDULE, devices=2)
    state, stepper = ensembles.train(e)
    return ensembles.by_client(e, state), stepper.evaluate(state)[0]

  def alone():
    e = peer(name, (2,), tmp_path, SCHEDULE, save_every=2)
    return ensembles.by_client(e, ensembles.train(e)[0])

  def whole():
    return fused(name)

  (pair, found), (single,), (expected, everyone) = at_once(together, alone, whole)
  chex.assert_trees_all_close([*pair, single], expected, rtol=1e-10, atol=1e-12)
  for head, values in found["private_accuracy"].items():
    assert values == everyone["private_accuracy"][head][:2]
  matrix = np.array(everyone["accuracy_by_owner"]["main"])
  np.testing.assert_array_equal(found["accuracy_by_owner"]["main"], matrix[:2, :2])
  (again,) = at_once(lambda: stopped_and_resumed(name, tmp_path))
  chex.assert_trees_all_close(again, [expected[2]], rtol=1e-10, atol=1e-12)


def stopped_and_resumed(name, folder):
  """Client 2, which is stopped and goes on while no other lives, but for what they left."""
  make = lambda: peer(name, (2,), folder, SCHEDULE, save_every=2)
  calls = iter((False, True, True))
  run = lambda e, stop: loop.run(e, folder / "peer-2", command="", stop=stop)
  assert run(make(), lambda: next(calls)) == STOPPED
  e = make()
  assert run(e, lambda: False) == DONE
  state, _, _ = resume.restore(e, folder / "peer-2")
  return ensembles.by_client(e, state)


@pytest.mark.parametrize("name", ["confusion", "prior_offset"])
def test_a_peer_is_tested_as_in_the_whole(tmp_path, name):
  """Its own clients' numbers, of untrained models: not another client's classes or prior."""
  c = config("mhd pool", dtype="float32")
  c.evals, c.public_share = {name: dict(every=4, batch=8)}, 0.1
  source, shards = ensembles.data(3)
  shards = dataclasses.replace(shards, primary=((0,), (1, 2), (3,)))
  data = dataset.Data(source, source.train, shards)
  whole = experiment.build(c, data=data, devices=jax.devices()[:1])
  own = (1, 2)
  part = api.peer(c, Mail(str(tmp_path), own, **LOOSE), data=data, devices=jax.devices()[:1])
  (expected,), (found,) = (e.evaluators[name][1](e.init()) for e in (whole, part))
  assert set(found) == set(expected) and "main" in next(iter(found.values()))
  for key, heads in found.items():
    for head, values in heads.items():
      np.testing.assert_allclose(values, [expected[key][head][k] for k in own], err_msg=key)


def test_a_peer_alone_trains_to_its_end(tmp_path):
  """Its pool stays as it began: its teachers' first weights."""
  e = peer("mhd pool", (0,), tmp_path / "shared", LOOSE, dtype="float32")
  first = jax.device_get(e.init().local)
  state = ensembles.train(e)[0]
  chex.assert_trees_all_equal(jax.device_get(state.local), first)
  assert loop.run(e, tmp_path / "peer-0", command="") == DONE
  summary = json.loads((tmp_path / "peer-0" / "summary.json").read_text())
  assert (summary["messages"]["left"], summary["messages"]["missing"]) == (3, 3)
  assert summary["here"] == [0] and len(summary["label_counts"]) == 1
  assert sorted(p.name for p in (tmp_path / "shared/checkpoints/0").iterdir()) == ["1.msg", "2.msg"]


@pytest.mark.parametrize("start", ["first", "empty"])
def test_first_pools_hold_the_teachers_first_weights_or_nothing(start, tmp_path):
  small = dict(dtype="float32", algo_pool_start=start)
  whole = ensembles.build(config("mhd pool", **small), data_=ensembles.data(3))
  expected = whole.init()
  e = peer("mhd pool", (1, 2), tmp_path, LOOSE, **small)
  own = e.init()
  for mine, theirs, rows in ((0, 0, slice(1, 2)), (1, 1, slice(0, 1))):
    chex.assert_trees_all_equal(
      jax.device_get((own.clients[mine], own.local[mine])),
      jax.tree.map(
        lambda x, r=rows: np.asarray(x)[r], (expected.clients[theirs], expected.local[theirs])
      ),
    )


def test_who_starts_late_takes_the_newest_of_those_ahead(tmp_path):
  rules = dict(name="mhd pool", folder=tmp_path, dtype="float32", algo_pool_size=2)
  early = peer(own=(0, 2), rules=LOOSE, **rules)
  ensembles.train(early)
  late = peer(own=(1,), rules=LOOSE, **rules)
  stepper = Stepper(late)
  state, _ = ensembles.train(late, stepper=stepper, calls=3)  # two batches and a refresh
  assert stepper.counts["taken"] == 1
  pool = jax.device_get(state.local[0])
  assert sorted(pool.born[0].tolist()) == [0, 6]  # three refreshes after two batches each
  slot = int(pool.born[0].argmax())
  sender = int(pool.peer[0, slot])
  data = (tmp_path / "checkpoints" / str(sender) / "2.msg").read_bytes()
  sent = np.frombuffer(data, "<f4", offset=2048)
  np.testing.assert_array_equal(pool.flat[0, slot, : len(sent)], sent)


def test_what_is_damaged_is_refused_counted_and_survived(tmp_path):
  rules = dict(folder=tmp_path / "shared", rules=LOOSE, dtype="float32")
  ensembles.train(peer("fedmd", (1, 2), **rules))
  place = tmp_path / "shared" / "logits" / "1" / "0.msg"
  data = bytearray(place.read_bytes())
  data[-1] ^= 4
  place.write_bytes(data)
  assert loop.run(peer("fedmd", (0,), **rules), tmp_path / "peer-0", command="") == DONE
  lines = writer.read_metrics(tmp_path / "peer-0")
  first, second = [line for line in lines if line["phase"] == "agree"]
  assert (first["refused/digest/1"], first["taken"], first["missing"]) == (1, 1, 1)
  assert (second["taken"], second["missing"]) == (2, 0)
  messages = json.loads((tmp_path / "peer-0" / "summary.json").read_text())["messages"]
  assert (messages["refused/digest/1"], messages["taken"], messages["missing"]) == (1, 3, 1)


def test_the_consensus_is_the_mean_of_those_who_are_there(tmp_path):
  """Client 0 begins when client 2 has left its logits and client 1 has not."""
  rules = dict(folder=tmp_path, rules=LOOSE, dtype="float32")
  e = peer("fedmd", (2,), **rules)
  theirs = ensembles.train(e, calls=calls_to(e, "agree"))[0].local[0][0]
  e = peer("fedmd", (0,), **rules)
  state = ensembles.train(e, calls=calls_to(e, "agree"))[0]
  mean = (np.asarray(state.local[0][0]) + np.asarray(theirs)) / 2
  np.testing.assert_allclose(state.server[0], mean, rtol=1e-6)


def calls_to(e, name):
  """Calls of a run up to the first of a phase, that one included."""
  return next(v.start + v.calls for v in e.visits if v.phase.name == name)


def test_predictions_that_do_not_sum_to_one_are_no_predictions(tmp_path):
  """The kinds that a method makes are those that tests/faults/messages_test.py tries."""
  from kdjax.algorithms.mhd import method, peer

  for k, wrong in ((0, "sum"), (2, "index")):
    e = ensembles.build(ensembles.config("mhd published", algo_top_k=k, dtype="float32"))
    _, hyper = experiment.chosen_method(e.config)
    kind = peer.predictions(e.env, method.predictor(hyper), hyper)
    arrays = {name: np.zeros(shape, dtype) for name, (shape, dtype) in kind.shapes(0).items()}
    assert arrays["p"].shape == (2, 8, 2, k or ensembles.CLASSES)
    assert arrays["xi"].shape == (2, 8, 8)
    assert kind.check(arrays) == wrong


@pytest.mark.parametrize(
  "own, changes, key",
  [
    ((0,), dict(algo_exchange="fresh"), "algo.exchange"),
    ((0,), dict(replicas=2), "replicas"),
    ((), {}, "--peer"),
    ((0, 1, 2), {}, "--peer"),
    ((0, 0), {}, "--peer"),
    ((3,), {}, "--peer"),
  ],
)
def test_what_cannot_come_apart_is_said(own, changes, key, tmp_path):
  with pytest.raises(ConfigError) as refusal:
    peer("mhd pool", own, tmp_path, LOOSE, dtype="float32", **changes)
  assert refusal.value.key == key
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["separate", "fedavg", "gossip average", "fedgkt", "kd"])
def test_methods_that_need_everyone_at_once_are_refused_by_name(name, tmp_path):
  c = ensembles.config(name, ((3, *ensembles.MLP),), dtype="float32")
  with pytest.raises(ConfigError, match="cannot train apart") as refusal:
    experiment.build(c, data=_data(), mail=Mail(str(tmp_path), (0,), **LOOSE))
  assert refusal.value.value == c.algorithm


def _data():
  source, shards = ensembles.data(3)
  return dataset.Data(source, source.train, shards)


@pytest.mark.parametrize("key, value", [("age", -1), ("keep", -1), ("wait_seconds", -0.5)])
def test_rules_that_cannot_be_are_refused(key, value, tmp_path):
  with pytest.raises(ConfigError, match=f"peers.{key}"):
    Mail(str(tmp_path), (0,), **(LOOSE | {key: value}))


def test_a_folder_that_cannot_be_one_is_refused(tmp_path):
  (tmp_path / "file").touch()
  with pytest.raises(ConfigError, match="must be a folder"):
    peer("mhd pool", (0,), tmp_path / "file", LOOSE, dtype="float32")


TINY = (
  "--config=configs/mhd_digits.py",
  "--config.replicas=1",
  "--config.model.dtype=float64",
  "--config.clients=((3, 'mlp', {'hidden': (8,), 'activation': 'tanh'}),)",
  "--config.primary=random",
  "--config.labels=3",
  "--config.algo.aux_heads=1",
  "--config.algo.refresh_every=4",
  "--config.steps=8",
  "--config.save_every=4",
  "--config.peers.wait_seconds=450",
  "--config.peers.keep=0",
)


def test_processes_that_wait_for_each_other_equal_the_fused_run(tmp_path):
  command = [sys.executable, "launch/peers.py", "--clients=3", "--together=2", "--", *TINY]
  done = subprocess.run(
    [*command, f"--workdir={tmp_path}"], cwd=ROOT, capture_output=True, text=True, timeout=500
  )
  assert done.returncode == 0, done.stderr
  changes = {"clients": ((3, "mlp", dict(hidden=(8,), activation="tanh")),), "labels": 3}
  changes |= {"primary": "random"}
  changes |= {"replicas": 1, "model.dtype": "float64", "steps": 8, "save_every": 4}
  changes |= {"algo.aux_heads": 1, "algo.refresh_every": 4, "compare": ()}

  def whole():
    e = kdjax.build(kdjax.get_config("mhd_digits", **changes))
    return ensembles.by_client(e, ensembles.train(e)[0])

  (expected,) = at_once(whole)
  with jax.enable_x64(True):
    places = (("peer-0-1", 0), ("peer-0-1", 1), ("peer-2", 2))
    found = [kdjax.load(tmp_path / name, client=k).params for name, k in places]
    with pytest.raises(ConfigError, match="trained elsewhere: the clients here are 0, 1"):
      kdjax.load(tmp_path / "peer-0-1", client=2)
  chex.assert_trees_all_close(found, [params for params, _ in expected], rtol=1e-10, atol=1e-12)
  assert [row["client"] for row in kdjax.Run(tmp_path / "peer-2").results()][:2] == [2, 2]


@pytest.mark.parametrize(
  "flags, key",
  [
    (dict(peer=["0"]), "--peer"),
    (dict(peers="shared"), "--peer"),
    (dict(peers="shared", peer=["x"]), "--peer"),
    (dict(peers="shared", peer=["-1"]), "--peer"),
    (dict(peers="shared", peer=["0"], plan=True), "--peers"),
  ],
)
def test_flags_that_do_not_go_together_are_refused(flags, key, monkeypatch):
  given = SimpleNamespace(**(dict(peers=None, peer=[], plan=False) | flags))
  monkeypatch.setattr(command_flags, "FLAGS", given)
  with pytest.raises(ConfigError) as refusal:
    command_flags.peer_clients(several=False)
  assert refusal.value.key == key


def test_the_folder_of_many_clients_has_a_name_that_a_file_system_takes(tmp_path):
  assert main.peer_folder((0, 1)) == "peer-0-1"
  names = {main.peer_folder(tuple(range(k, k + 200))) for k in range(3)}
  assert len(names) == 3 and all(name.startswith("peer-") for name in names)
  for name in names:
    (tmp_path / name).mkdir()


def test_a_client_trains_in_one_process(tmp_path):
  """Two wrote over each other's messages."""
  folder = str(tmp_path / "shared")
  with lock.claimed(folder, (0, 2)), lock.claimed(folder, (1,)):
    match = rf"--peer = 2: another process trains this client: .* by process {os.getpid()} on "
    with pytest.raises(ConfigError, match=match), lock.claimed(folder, (3, 2)):
      pass
    with lock.claimed(folder, (3,)):
      pass
  with lock.claimed(folder, (2, 3)):
    pass


def test_a_command_claims_its_clients(tmp_path, monkeypatch):
  folder = str(tmp_path / "shared")
  given = SimpleNamespace(peers=folder, peer=["0"], profile=0)
  monkeypatch.setattr(main, "FLAGS", given)
  c = config("mhd pool", dtype="float32")
  source, shards = ensembles.data(3)
  data = dataset.Data(source, source.train, shards)
  monkeypatch.setattr(dataset, "open_data", lambda *_, **__: data)
  with lock.claimed(folder, (0,)), pytest.raises(ConfigError, match="--peer = 0: another process"):
    main.train(c, tmp_path, devices=jax.devices()[:1], own=(0,))


def test_a_resumed_peer_goes_on_where_images_are_damaged(monkeypatch, tmp_path):
  """It was refused as a run that begins is."""
  asked = []
  opened = dataset.open_data

  def noted(*arguments, begun=False):
    asked.append(begun)
    return opened(*arguments, begun=begun)

  monkeypatch.setattr(dataset, "open_data", noted)
  c = kdjax.get_config("mhd_digits", replicas=1, compare=())
  for begun in (False, True):
    mail = Mail(str(tmp_path), (0,), **LOOSE)
    api.peer(c, mail, devices=jax.devices()[:1], begun=begun)
  assert asked == [False, True]


def test_flags_name_the_clients_of_a_peer(monkeypatch):
  given = SimpleNamespace(peers="shared", peer=["2", "0"], plan=False)
  monkeypatch.setattr(command_flags, "FLAGS", given)
  assert command_flags.peer_clients(several=False) == (0, 2)
  with pytest.raises(ConfigError, match="a peer is one process"):
    command_flags.peer_clients(several=True)
