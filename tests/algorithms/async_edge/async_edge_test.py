"""Asynchronous edge learning against NumPy, and the identities that follow from its definition."""

import dataclasses
import functools

import chex
import ensembles
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import regression
from helpers import make_mesh, near, usually
from jax.sharding import PartitionSpec as P

from kdjax import plan
from kdjax.algorithms.async_edge import corruption, steps, stopping
from kdjax.configs import common
from kdjax.core import losses, snapshots
from kdjax.core.env import STATE
from kdjax.data import partition
from kdjax.training import program, schedule
from kdjax.training.stepper import Dispatch, Stepper
from kdjax.types import ConfigError, Now, TrainState

SIZES, BATCH, T, MOMENTUM = (10, 8, 6), 4, 2.0, 0.9
LATE = ((1, 0), (2, 1), (1, 2), (2, 0))
CLEAN = dict(algo_noisy=(), algo_noise=0.0)


@pytest.fixture(autouse=True)
def float64():
  with jax.enable_x64(True):
    yield


def build(rounds, *, data=None, replicas=1, **algo):
  """Softmax regressions by SGD with momentum along a cosine; `algo` are hyper-parameters."""
  algo = {"arrivals": (), **CLEAN, **{f"algo_{k}": v for k, v in algo.items()}}
  algo.setdefault("algo_arrivals", algo.pop("arrivals"))
  c = regression.config("async edge", len(SIZES), rounds, batch=BATCH, replicas=replicas, **algo)
  c.optim = common.sgd(lr=regression.LR, clip=0.0, weight_decay=0.0)
  return ensembles.build(c, data_=data or ensembles.data(len(SIZES), SIZES, R=replicas))


def walk(e, state=None):
  """(phase, round, state, aux of the last call) after every visit, on the host."""
  stepper = Stepper(e)
  state = stepper.init() if state is None else state
  for one in stepper.dispatches(int(state.calls)):
    state, aux = stepper.run(state, one)
    if one.ends_visit:
      visit = one.visit
      yield visit.phase.name, visit.round, jax.device_get(state), jax.device_get(aux)


def weights(state, g):
  """Over the clients of cohort g: f64[inputs + 1, C]."""
  params = state.clients[g].params
  n = len(jax.tree.leaves(params)[0])
  return [regression.weights(jax.tree.map(lambda x, k=k: x[k], params)) for k in range(n)]


class Reference:
  """One replica of the method as the paper writes it, on weights in NumPy."""

  def __init__(self, e, first, fresh):
    """first: over cohorts, the first weights of their models; fresh: those of every round."""
    self.e, self.algo, self.models, self.fresh = e, e.config["algo"], first, fresh
    self.past, self.memory, self.accuracy = [], [], []
    self.x, self.y = regression.examples(e, np.arange(len(e.data.source.train.labels)))

  def run(self):
    n, init = self.algo["ensemble"], self.algo["init"]
    for v in self.e.visits:
      if v.phase.name == "dispatch":
        self.past.append(self.models[0][0])
        (_, lag) = (self.algo["arrivals"] or [(1, 0), (2, 0)])[v.round]
        source = {"scratch": self.fresh[v.round], "clone": self.past[max(v.round - lag, 0)]}
        self.models[-1] = [source[init] if init in source else self.models[1][0]] * n
      elif v.phase.name == "collect":
        self.memory = [*self.memory, self.models[-1]][-self.algo["memory"] :]
      elif v.phase.feed:
        (g,) = v.phase.feed.cohorts
        before = sum(map(len, self.models[:g]))
        pull = self.distil if v.phase.name == "distil" else regression.gradient
        self.right, self.seen = 0, 0
        self.models[g] = [self.visit(v, before + k, w, pull) for k, w in enumerate(self.models[g])]
      else:
        self.accuracy.append(self.right / self.seen)
    return self

  def visit(self, v, client, w, pull):
    """One model's epochs: momentum starts at 0, the learning rate at the top."""
    velocity = 0
    for i in range(v.calls):
      at = schedule.position(v, i, v.calls)
      half = self.e.streams.batch(v.phase.feed, v.phase.name, at)["private"]
      index = half.index[client][half.mask[client] > 0]
      velocity = MOMENTUM * velocity + pull(w, self.x[index], self.y[index])
      w = w - np.float32(regression.LR * 0.5 * (1 + np.cos(np.pi * i / v.calls))) * velocity
    return w

  def distil(self, w, x, y):
    z = x @ w
    self.right += (z.argmax(1) == y.argmax(1)).sum()
    self.seen += len(x)
    teachers = [np.mean([regression.softmax(x @ m / T) for m in ms], 0) for ms in self.memory]
    if self.algo["literal"]:  # t^2 KL(p || softmax(z)): gradient t^2 (q - p)
      kd = [T**2 * (regression.softmax(z) - p) for p in teachers]
    else:  # t^2 KL(p || softmax(z / t)): gradient t (q - p)
      kd = [T * (regression.softmax(z / T) - p) for p in teachers]
    reduce = np.mean if self.algo["memory_reduce"] == "mean" else np.sum
    return regression.gradient(w, x, y) + x.T @ reduce(kd, 0) / len(x)


# The paper's variants, (init, n, M), and rounds and settings in which each is tried.
VARIANTS = {
  "IsPP": ("scratch", 1, 1, 2, {}),
  "IPP": ("independent", 1, 1, 1, dict(literal=True)),
  "IEP": ("independent", 3, 1, 1, {}),
  "IPM": ("independent", 1, 3, 2, {}),
  "CPP": ("clone", 1, 1, 2, {}),
  "CEP": ("clone", 3, 1, 1, {}),
  "CPM": ("clone", 1, 3, 2, dict(memory_reduce="mean")),
  "CEM": ("clone", 2, 2, 4, dict(edge_epochs=2, arrivals=LATE)),
}


@functools.cache
def trace(variant):
  """(experiment, first state, what `walk` yields)."""
  init, ensemble, memory, rounds, more = VARIANTS[variant]
  e = build(rounds, init=init, ensemble=ensemble, memory=memory, **more)
  first = e.init()
  return e, jax.device_get(first), list(walk(e, first))


@pytest.mark.parametrize("variant", usually(("CEM", "IPP", "IsPP"), VARIANTS))
def test_variants_take_the_steps_of_the_paper(variant):
  init, ensemble, memory, *_ = VARIANTS[variant]
  e, first, visits = trace(variant)
  names = ["core training", "dispatch", "edge", "collect", "distil", "watch"]
  names[1:1] = ["independent training"] * (init == "independent")
  assert [name for name, *_ in visits][: len(names)] == names
  cohorts = range(len(e.env.cohorts))
  assert [len(c.ids) for c in e.env.cohorts][-1] == ensemble
  fresh = [weights(s, -1)[0] for name, _, s, _ in visits if name == "dispatch"]
  expected = Reference(e, [weights(first, g) for g in cohorts], fresh).run()
  last = visits[-1][2]
  for g in cohorts:
    chex.assert_trees_all_close(weights(last, g), expected.models[g], rtol=1e-9, atol=1e-11)
  watched = [aux[0]["train_accuracy"][0] for name, _, _, aux in visits if name == "watch"]
  chex.assert_trees_all_close(watched, expected.accuracy, rtol=1e-12)
  assert last.local[0].memory.shape[:3] == (1, memory, ensemble)


def test_members_start_as_the_core_was_and_part_by_their_batches():
  e, _, visits = trace("CEM")
  before, source = {}, {0: 0, 1: 0, 2: 0, 3: 3}  # LATE: the core of before which round
  for (_, _, old, _), (name, round, new, _) in zip(visits, visits[1:], strict=False):
    if name == "dispatch":
      before[round] = weights(old, 0)[0]
      for w in weights(new, 1):
        chex.assert_trees_all_close(w, before[source[round]], rtol=0)
      assert not any(x.any() for x in jax.tree.leaves(new.clients[1].opt_state))
    if name == "edge":
      one, two = weights(new, 1)
      assert np.abs(one - two).max() > 1e-4
      chex.assert_trees_all_equal(old.clients[0], new.clients[0])
    if name == "collect":
      assert not any(x.any() for x in jax.tree.leaves(new.clients[0].opt_state))
    if name == "distil":
      chex.assert_trees_all_equal(old.clients[1], new.clients[1])


def test_memory_holds_exactly_the_most_recent_rounds():
  """U8."""
  e, _, visits = trace("CEM")
  came = []
  for name, round, state, _ in visits:
    memory = state.local[0].memory[0]  # [M, n, L]
    if name == "collect":
      with jax.enable_x64(True):
        came.append(np.asarray(snapshots.pack(e.env, state.clients[1])))
      assert state.server["holder"] == LATE[round][0]
      chex.assert_trees_all_equal(memory[round % 2], came[round])
      earlier = came[round - 1] if round else np.zeros_like(came[0])
      chex.assert_trees_all_equal(memory[(round + 1) % 2], earlier)


def test_what_changes_nothing():
  """U5 and U6: noise that never strikes, arrivals without lag, though from a longer ring."""
  arrivals = ((1, 0), (2, 0), (1, 2))
  e = build(2, ensemble=1, memory=1, noisy=(1, 2), noise=0.0, arrivals=arrivals)
  *_, (_, _, state, _) = walk(e)
  assert state.local[0].past.shape[:2] == (1, 3)
  chex.assert_trees_all_equal(state.clients, trace("CPP")[2][-1][2].clients)


def test_statistics_travel_with_models_and_teachers_run_in_evaluation_mode():
  c = ensembles.config(
    "async edge", ((3, *ensembles.MLP),), steps=0, norm="batch", algo_arrivals=(), **CLEAN
  )
  c.rounds = 1
  e = ensembles.build(c, data_=ensembles.data(3, (8, 18, 8)))  # the core's epoch is one batch
  first = jax.device_get(e.init())
  visits = {name: (state, aux) for name, _, state, aux in walk(e)}
  one = lambda tree, k: jax.tree.map(lambda x: x[k], tree)
  core, members = visits["dispatch"][0].clients
  for k in range(2):
    chex.assert_trees_all_equal(one(members.model_state, k), one(core.model_state, 0))
    for old, new in ((first.clients[1], members), (members, visits["edge"][0].clients[1])):
      moved = jax.tree.map(
        lambda a, b: (a != b).any(), *(one(x.model_state, k) for x in (old, new))
      )
      assert all(jax.tree.leaves(moved))
  core, members = visits["collect"][0].clients
  memory = visits["collect"][0].local[0].memory[0, 0]  # [n, L]
  for k, flat in enumerate(memory):
    kept = snapshots.unflatten(flat, e.env.snapshots()[1])
    chex.assert_trees_all_equal(kept, (one(members.params, k), one(members.model_state, k)))

  images = regression.examples(e, e.data.shards.private[0])[0][:, :-1].reshape(8, *ensembles.IMAGE)

  def logits(client, **local_map):
    variables = {"params": client.params, **client.model_state}
    said = e.env.cohorts[1].model.clone(axes=()).apply(variables, images, **local_map)
    return np.asarray((said[0] if local_map["train"] else said).logits[:, 0])

  student, training = one(core, 0), dict(train=True, mutable=["batch_stats"])
  q = regression.softmax(logits(student, **training) / T)
  told = visits["distil"][1][0]["distillation"][0]
  for local_map, agrees in ((dict(train=False), True), (training, False)):
    p = np.mean([regression.softmax(logits(one(members, k), **local_map) / T) for k in range(2)], 0)
    expected = T**2 * (p * np.log(p / q)).sum(1).mean()
    assert (abs(told - expected) < 1e-9) == agrees


def of(visits, phase, round=0):
  """The state after a visit."""
  return next(s for name, r, s, _ in visits if (name, r) == (phase, round))


def test_slots_of_memory_that_are_empty_teach_nothing():
  """U2: until the second round comes back, a larger memory is a plain one."""
  plain, larger = (weights(of(trace(v)[2], "watch"), 0) for v in ("CPP", "CPM"))
  chex.assert_trees_all_close(larger, plain, rtol=1e-12, atol=1e-14)


def test_untrained_clones_teach_nothing_at_first():
  """U1 and U2: the ensemble of equal models is one of them, and that is the student."""
  e = build(1, ensemble=3, memory=2, edge_epochs=0, data=ensembles.data(3, (BATCH,) * 3))
  visits = list(walk(e))  # a pass is one step
  (aux,) = (a for name, _, _, a in visits if name == "distil")
  assert abs(aux[0]["distillation"][0]) < 1e-12 < aux[0]["cross_entropy"][0]
  w, x, y = weights(visits[0][2], 0)[0], *regression.examples(e, e.data.shards.private[0])
  step = regression.LR * regression.gradient(w, x, y)
  chex.assert_trees_all_close(weights(visits[-1][2], 0)[0], w - step, rtol=1e-9, atol=1e-12)


def test_distillation_never_looks_at_edges():
  """U7: once the models are back, other edge data leaves the core bit for bit alone."""
  e, _, visits = trace("CPP")
  source, shards = e.data.source, e.data.shards
  pixels, labels = source.train.array.copy(), source.train.labels.copy()
  for places in shards.private[1:]:
    pixels[places] = 255 - pixels[places]
    labels[places] = (labels[places] + 1) % ensembles.CLASSES
  train = dataclasses.replace(source.train, array=pixels, labels=labels)
  poisoned = source._replace(train=train)
  e = build(1, data=(poisoned, shards), ensemble=1, memory=1)
  *_, (_, _, end, _) = walk(e, of(visits, "collect"))
  chex.assert_trees_all_equal(end, of(visits, "watch"))


def test_fresh_weights_differ_between_rounds_not_between_members():
  first, second = (weights(of(trace("IsPP")[2], "dispatch", round), 1)[0] for round in (0, 1))
  assert np.abs(first - second).max() > 0.01
  e = build(1, init="scratch", ensemble=2, core_epochs=0)
  one, two = weights(next(walk(e))[2], 1)
  chex.assert_trees_all_equal(one, two)


@pytest.mark.thorough
def test_meshes_agree():
  """(2, 2) against one device, with noise, lag and padding; (4, 2) is in `meshes_test`."""
  data = ensembles.data(3, (20, 13, 18), R=2)

  def trained(mesh):
    c = regression.config("async edge", 3, rounds=2, replicas=2)
    e = ensembles.build(c, data_=data, mesh=mesh, local_map="scan")
    state = ensembles.train(e)[0]
    core = jax.device_get(state.local[0])
    return tuple(e.env.mesh.shape.values()), ensembles.by_client(e, state), core

  one, *reference = trained(1)
  four, *split = trained(4)
  assert (one, four) == ((1, 1), (2, 2))
  chex.assert_trees_all_close(split, reference, rtol=1e-10, atol=1e-12)


def shuffled(data, keys, p, label, mask):
  """`corruption.permuted` of each key on a mesh whose data axis has so many devices."""
  fn = jax.vmap(lambda k, x, m: corruption.permuted(k, p, x, m))
  split = P(None, "data")
  specs = dict(in_specs=(P(), split, split), out_specs=split, check_vma=False)
  n = len(keys)
  wide = lambda x: np.broadcast_to(x, (n, len(x)))
  program = jax.jit(jax.shard_map(fn, mesh=make_mesh(1, data), **specs))
  return np.asarray(program(keys, wide(label), wide(mask)))


def test_noise_permutes_labels_within_a_batch():
  label, mask = np.arange(8, dtype=np.int32), np.array([1] * 6 + [0] * 2, np.float32)
  keys = jax.random.split(jax.random.key(0), 400)
  always = shuffled(1, keys, 1.0, label, mask)
  assert (np.sort(always[:, :6]) == np.arange(6)).all() and (always[:, 6:] == [6, 7]).all()
  for place in range(6):  # every label comes to every place
    counts = np.bincount(always[:, place], minlength=6)
    assert np.abs(counts / 400 - 1 / 6).max() < near(1 / 6, 400)
  half = shuffled(1, keys, 0.5, label, mask)
  assert abs((half != label).any(1).mean() - 0.5) < near(0.5, 400) + 1 / 720
  assert (shuffled(1, keys, 0.0, label, mask) == label).all()
  np.testing.assert_array_equal(shuffled(4, keys, 0.5, label, mask), half)


def test_fixed_noise_gives_an_example_the_same_wrong_label_whenever_it_is_seen():
  key, n, counts = jax.random.key(0), 4000, np.array([0, 300, 100, 600])
  label, row = np.zeros(n, np.int32), np.arange(n)
  wrong = functools.partial(corruption.relabelled, key, counts=counts)
  found = np.asarray(wrong(0.5, label, row))
  other = np.random.default_rng(0).permutation(n)
  np.testing.assert_array_equal(wrong(0.5, label[other], row[other]), found[other])
  assert abs((found != 0).mean() - 0.5) < near(0.5, n)  # none of class 0 is drawn
  shares = np.bincount(np.asarray(wrong(1.0, label, row)), minlength=4) / n
  assert shares[0] == 0
  for c in (1, 2, 3):
    assert abs(shares[c] - counts[c] / 1000) < near(counts[c] / 1000, n)
  assert (np.asarray(wrong(0.0, label, row)) == 0).all()


def test_only_fixed_noise_can_be_memorised():
  """Full batches of one edge, seen over and over: training accuracy tells the two apart."""
  accuracy = {}
  for kind in ("batch", "fixed"):
    e = build(
      1, ensemble=2, memory=1, core_epochs=0, edge_epochs=60, noisy=(1,), corruption=kind, noise=1.0
    )
    losses = [aux[1]["loss"] for name, _, _, aux in walk(e) if name == "edge"][0]
    accuracy[kind] = float(losses.mean())
  assert accuracy["fixed"] < 0.3 < 0.8 < accuracy["batch"]


def test_models_rest_once_they_have_learned_enough():
  """A bound that all meet after the first pass stops them there; the core likewise."""
  plain = build(1, ensemble=2, memory=1, edge_epochs=3, distil_epochs=3)
  early = build(
    1,
    ensemble=2,
    memory=1,
    edge_epochs=3,
    distil_epochs=3,
    edge_threshold=1e6,
    distil_tolerance=1e6,
  )
  passes = {}
  for e in (plain, early):
    stepper = Stepper(e)
    state = stepper.init()
    for one in stepper.dispatches(0):
      for i in range(one.calls):
        state, _ = stepper.run(state, one._replace(first=one.first + i, calls=1))
        name, place = one.visit.phase.name, one.first + i
        passes[e is early, name, place] = weights(state, 1 if name == "edge" else 0)[0]
  edge, distil = 8 // BATCH, -(-10 // BATCH)  # steps of a pass
  for name, n, rests_after in (("edge", edge, 1), ("distil", distil, 2)):
    for place in range(3 * n):
      ended = min(place, rests_after * n - 1)
      np.testing.assert_array_equal(passes[True, name, place], passes[True, name, ended])
    assert (passes[True, name, rests_after * n - 1] != passes[True, name, 0]).any()
  np.testing.assert_array_equal(passes[True, "edge", edge - 1], passes[False, "edge", edge - 1])
  assert (passes[False, "edge", 3 * edge - 1] != passes[False, "edge", edge - 1]).any()


def test_in_replicas_of_different_sizes_a_pass_ends_for_each_on_its_own():
  """An edge with 12 examples beside one with 6, in batches of 4: 3 steps of a pass and 2."""
  source, shards = ensembles.data(6, (10, 12, 8, 10, 6, 8))
  shards = dataclasses.replace(shards, public=shards.public * 2)
  early = dict(edge_epochs=3, edge_threshold=1e6)
  e = build(1, data=(source, shards), replicas=2, ensemble=2, memory=1, **early)
  stepper, found = Stepper(e), []
  state = stepper.init()
  for one in stepper.dispatches(0):
    for i in range(one.calls):
      state, _ = stepper.run(state, one._replace(first=one.first + i, calls=1))
      if one.visit.phase.name == "edge":
        found.append(state.local[1].rests.tolist())
  # Two models at each edge, which rest after a pass of their own.
  assert found == [[n >= 3, n >= 3, n >= 2, n >= 2] for n in range(1, 10)]


def test_pace_counts_every_example_of_a_pass():
  pace = stopping.start(jnp.zeros(2))
  rule = functools.partial(stopping.after, threshold=1.0, tolerance=0.5)
  pace = rule(pace, jnp.array([3.0, 0.5]), jnp.array([2.0, 4.0]), False)
  pace = rule(pace, jnp.array([1.0, 2.0]), jnp.array([2.0, 4.0]), True)
  assert pace.before.tolist() == [2.0, 1.25] and pace.rests.tolist() == [False, False]
  pace = rule(pace, jnp.array([1.6, 0.75]), jnp.array([4.0, 8.0]), True)
  assert pace.rests.tolist() == [True, True]  # 2 - 1.6 < 0.5; 0.75 < 1, and 1.25 - 0.75 not < 0.5
  pace = rule(pace, jnp.array([9.0, 9.0]), jnp.array([4.0, 8.0]), True)
  assert pace.rests.tolist() == [True, True] and pace.before[0] == pytest.approx(1.6)


def test_members_the_first_edge_and_the_core_before_a_distillation_are_tested():
  e = build(2, ensemble=2, memory=1, track=True)
  visits = list(walk(e))
  images = e.data.source.test.array
  x = np.asarray(jax.vmap(e.view)(images), float).reshape(len(images), -1)
  x = np.concatenate([x, np.ones((len(x), 1))], 1)
  core = [weights(of(visits, "collect", round), 0)[0] for round in (0, 1)]  # before they learn
  came = [weights(of(visits, "collect", round), 1) for round in (0, 1)]
  mean = lambda ws: np.log(np.mean([regression.softmax(x @ w) for w in ws], 0))
  last = of(visits, "watch", 1)
  expected = {
    "core": x @ weights(last, 0)[0],
    "before": x @ core[1],
    "edge": mean(came[1]),
    "first": mean(came[0]),
    "member1": x @ came[1][0],
    "member2": x @ came[1][1],
  }
  said = jax.jit(
    jax.shard_map(
      lambda s, v: e.algorithm.predict(s, v),
      mesh=e.env.mesh,
      in_specs=(STATE, P()),
      out_specs=P(),
      check_vma=False,
    )
  )(last, np.asarray(jax.vmap(e.view)(images), float))
  assert set(said) == set(expected)
  for name, logits in expected.items():
    chex.assert_trees_all_close(said[name][0, :, 0], logits, rtol=1e-9, atol=1e-11)


def test_only_noisy_edges_are_corrupted():
  noisy = build(2, ensemble=1, memory=1, noisy=(1,), noise=1.0)
  edges = [v for v in noisy.visits if v.phase.name == "edge"]
  assert [v.phase.args(schedule.position(v, 0, 1)).noise for v in edges] == [1, 0]
  for name, round, state, _ in walk(noisy):
    clean = of(trace("CPP")[2], name, round)
    same = np.array_equal(weights(state, 1)[0], weights(clean, 1)[0])
    assert same == (name != "edge")
    if name == "edge":
      break


def test_a_jump_of_training_accuracy_over_the_round_before_is_flagged():
  step = steps.watch_step(flag_above=0.2)
  zero, found = np.zeros(1), []
  local = (steps.Core((), (), (), zero, zero, zero, (), (), ()), ())
  for round, right in enumerate((10, 11, 18, 11, 14, 17)):  # of 20
    local = (local[0]._replace(correct=np.array([right]), seen=np.array([20])), ())
    now = Now(0, 0, 0, round, 0.0, ())
    state, aux = step(TrainState(0, (), local, ()), None, now)
    local = state.local
    assert aux[1] == {} and aux[0]["train_accuracy"][0] == pytest.approx(right / 20)
    found.append((float(aux[0]["jump"][0]), float(aux[0]["flag"][0])))
  expected = [(0, 0), (0.05, 0), (0.35, 1), (-0.35, 0), (0.15, 0), (0.15, 0)]
  np.testing.assert_allclose(found, expected, atol=1e-6)


def test_divergence_from_probabilities():
  p, logits = jnp.array([0.5, 0.5, 0.0]), jnp.log(jnp.array([0.25, 0.5, 0.25]))
  assert losses.kl(p, logits) == pytest.approx(0.5 * np.log(2))  # .5 log 2 + .5 log 1 + 0
  assert losses.kl(jnp.exp(logits), logits + 3) == pytest.approx(0, abs=1e-12)
  assert not jax.grad(lambda p: losses.kl(p, logits))(p).any()
  # U3: t^2 KL of tempered logits tends to the centred difference over C.
  f, z, t = jnp.array([1.0, -2.0, 0.5, 0.0]), jnp.array([0.0, 1.0, 1.5, -1.0]), 1e4
  slope = jax.grad(lambda z: t**2 * losses.kl(jax.nn.softmax(f / t), z / t))(z)
  difference = (z - z.mean()) - (f - f.mean())
  np.testing.assert_allclose(slope, difference / 4, atol=1e-3)


def test_bytes_are_a_model_down_and_the_ensemble_up():
  model = 8 * (36 + 1) * ensembles.CLASSES
  for init, models in (("clone", 1 + 3), ("independent", 1 + 3), ("scratch", 3)):
    e = build(2, replicas=2, init=init, ensemble=3)
    end = e.visits[-1].start + e.visits[-1].calls
    assert schedule.bytes_sent(e.algorithm, e.visits, end) == {"weights": 2 * 2 * models * model}


def test_edges_are_visited_in_turn_and_late_comers_as_listed():
  e = build(4)
  owner = next(v.phase.feed.owner for v in e.visits if v.phase.name == "edge")
  assert [owner(round, 1) for round in range(4)] == [1, 2, 1, 2]
  late = build(4, arrivals=LATE)
  lags = [
    v.phase.args(schedule.position(v, 0, 1)) for v in late.visits if v.phase.name == "dispatch"
  ]
  assert lags == [0, 1, 2, 0]
  assert late.shapes().local[0].past.shape[:2] == (1, 3)
  assert late.streams.processed(late.visits).tolist() == [10 + 4 * 10, 2 * 2 * 8, 2 * 2 * 6]


def test_a_pass_ends_where_it_does_in_a_visit_that_is_cut_short():
  """Two passes over the core's 10 examples and over the first edge's 8, in batches of 4."""
  e = build(1)
  for name, size in (("edge", SIZES[1]), ("distil", SIZES[0])):
    visit = next(v for v in e.visits if v.phase.name == name)
    for n in (visit.calls, visit.calls - 1):
      told = [
        visit.phase.args(schedule.position(visit, i, n)._replace(visit_calls=n)) for i in range(n)
      ]
      ends = [(x if name == "distil" else x.ends_pass).item() for x in told]
      assert [i + 1 for i, end in enumerate(ends) if end] == [
        i for i in range(1, n + 1) if i % -(-size // BATCH) == 0
      ]


def test_ten_even_random_subsets():
  """U9: 5,000 images each of CIFAR-100's 50,000, 50 +- 6.7 a class: not stratified."""
  labels = np.repeat(np.arange(100), 500)
  parts = partition.equal(np.arange(50_000), K=10, seed=0)
  assert [len(p) for p in parts] == [5_000] * 10
  assert len(np.unique(np.concatenate(parts))) == 50_000
  counts = np.stack([np.bincount(labels[p], minlength=100) for p in parts])
  assert counts.std() == pytest.approx(np.sqrt(50 * 0.9), rel=0.05)  # hypergeometric, 6.7


MIXED = ((1, *ensembles.MLP), (2, *ensembles.WIDE))


@pytest.mark.parametrize(
  "key, changes",
  [
    ("clients", dict(clients=MIXED)),  # clones of another architecture
    ("clients", dict(clients=(*MIXED, (1, *ensembles.MLP)), algo_init="independent")),
    ("clients", dict(clients=((1, *ensembles.MLP),))),
    ("algo.init", dict(algo_init="copy")),
    ("algo.ensemble", dict(algo_ensemble=0)),
    ("algo.memory", dict(algo_memory=0)),
    ("algo.memory_reduce", dict(algo_memory_reduce="last")),
    ("algo.temperature", dict(algo_temperature=0.0)),
    ("algo.core_epochs", dict(algo_core_epochs=-1)),
    ("algo.distil_epochs", dict(algo_distil_epochs=0)),
    ("algo.flag_above", dict(algo_flag_above=-0.1)),
    ("algo.arrivals", dict(algo_arrivals=((0, 0),))),
    ("algo.arrivals", dict(algo_arrivals=((4, 0),))),
    ("algo.arrivals", dict(algo_arrivals=(1, 0))),  # no pairs
    ("algo.arrivals", dict(algo_arrivals=((1, "late"),))),
    ("algo.arrivals", dict(algo_arrivals=((1, -1),))),
    ("algo.arrivals", dict(algo_init="scratch", algo_arrivals=((1, 1),))),
    ("algo.noisy", dict(algo_noisy=(4,))),
    ("algo.noise", dict(algo_noise=1.5)),
    ("algo.corruption", dict(algo_corruption="once")),
    ("algo.edge_threshold", dict(algo_edge_threshold=-1.0)),
  ],
)
def test_what_cannot_be_is_refused(key, changes):
  with pytest.raises(ConfigError, match=f"^{key} = "):
    ensembles.build(ensembles.config("async edge", **changes))


def test_edges_may_differ_from_the_core_where_nothing_is_cloned():
  c = ensembles.config("async edge", MIXED, algo_init="independent", algo_arrivals=())
  e = ensembles.build(c)
  assert [(c.name, len(c.ids)) for c in e.env.cohorts] == [("mlp", 1), ("mlp", 1), ("mlp", 2)]
  assert [c.model.hidden for c in e.env.cohorts] == [(8,), (10, 8), (10, 8)]
  stepper, before = Stepper(e), e.shapes()
  for v in plan.first_visits(e):
    arguments = (*stepper.inputs(Dispatch(v, 0, 1)), stepper.tables)
    after, _ = jax.eval_shape(program.jitted(e, v.phase), before, *arguments)
    chex.assert_trees_all_equal_shapes_and_dtypes(after, before)
