"""Pairwise transfer: against plain gradients, what is frozen when, and who may be a source."""

import dataclasses
import functools

import chex
import ensembles
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import usually

from kdjax.algorithms.pairwise import layers, transfer
from kdjax.configs import common
from kdjax.core import snapshots
from kdjax.training import schedule
from kdjax.types import ConfigError, Shards

SQUARE = ("mlp", dict(hidden=(5, 5), activation="tanh"))
TWO = ((2, *ensembles.MLP), (2, *ensembles.WIDE))
EIGHT = (8, 8, 8)  # examples a client: one step is an epoch
LR, MAP_LR = 0.125, 0.5  # float32s as well
HALF, FULL = ((2, 0), (2, 1)), ((2, 0), (2, 1), (1, 0), (1, 2))  # (target, source)
LAYER = "Dense_1"


@pytest.fixture(autouse=True)
def float64():
  with jax.enable_x64(True):
    yield


def descent(lr):
  sgd = common.sgd(lr=lr, clip=0.0, schedule="constant", weight_decay=0.0)
  return sgd | {"momentum": 0.0}


def graph(edges):
  return dict(kind="edges", every=0, island=2, degree=2, edges=edges, seed=0)


def config(clients=((3, *SQUARE),), rounds=2, edges=HALF, **changes):
  """Three clients and plain gradient descent; a local batch, then two of transfer."""
  algo = dict(
    algo_layers=(LAYER,),
    algo_noise=0.0,
    algo_transfer_optim=descent(MAP_LR),
    algo_transfer_epochs=2,
  )
  changes = {"graph": graph(edges)} | algo | changes
  c = ensembles.config("pairwise", clients, steps=0, **changes)
  c.rounds, c.optim = rounds, descent(LR)
  return c


def build(sizes=EIGHT, mesh=1, **changes):
  return ensembles.build(config(**changes), data_=ensembles.data(3, sizes), mesh=mesh)


def forward(params, x):
  for name in ("Dense_0", "Dense_1"):
    x = jnp.tanh(x @ params[name]["kernel"] + params[name]["bias"])
  return x @ params["heads"]["main"]["kernel"] + params["heads"]["main"]["bias"]


def cross_entropy(params, x, y):
  return -jnp.mean(jax.nn.log_softmax(forward(params, x))[jnp.arange(len(y)), y])


def divergence(params, x, told):
  """Mean over sources and examples of KL(P || Q)."""
  p, log_q = jax.nn.softmax(told), jax.nn.log_softmax(forward(params, x))
  return jnp.mean(jnp.sum(p * (jnp.log(p) - log_q), -1))


def descend(loss, params, lr):
  return jax.tree.map(lambda p, g: p - lr * g, params, jax.grad(loss)(params))


def with_map(params, found, map):
  """W* = [mean_a W_a, W_b] M in the paper's orientation."""
  w = params[LAYER]["kernel"].T
  mean = sum(f.T for f in found) / len(found)
  return params | {LAYER: params[LAYER] | {"kernel": (jnp.concatenate([mean, w], 1) @ map).T}}


def apart(params, x, kernel, other):
  """Mean over examples and outputs of |K X - K' X|, X the inputs of the layer; the bias cancels."""
  inputs = jnp.tanh(x @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"])
  return jnp.mean(jnp.abs(inputs @ kernel - inputs @ other))


START = 0.25  # a
BEGIN = np.concatenate([START * np.eye(5), (1 - START) * np.eye(5)])


class Reference:
  """Every client's parameters, client by client, step by step."""

  def __init__(self, e, first):
    train, self.algo = e.data.source.train, e.config["algo"]
    x = [np.asarray(jax.vmap(e.view)(train.array[p]), float) for p in e.data.shards.private]
    self.x = [v.reshape(len(v), -1) for v in x]
    self.y = [train.labels[p] for p in e.data.shards.private]
    self.params = [p for p, _ in ensembles.by_client(e, first)]
    self.peers = {b: [a for i, a in e.config["graph"]["edges"] if i == b] for b in range(3)}
    self.fixed = np.asarray(first.local[0].maps[LAYER])
    self.maps = [BEGIN] * 3

  def ce(self, k):
    return lambda p: cross_entropy(p, self.x[k], self.y[k])

  def run(self, rounds):
    params, epochs = self.params, self.algo["transfer_epochs"]
    for _ in range(rounds):
      for k in range(3):
        for _ in range(self.algo["local_epochs"]):
          params[k] = descend(self.ce(k), params[k], LR)
      copies = list(params)
      for b in range(3):
        if self.peers[b]:
          self.transfer(b, [copies[a] for a in self.peers[b]])
        for _ in range(0 if self.peers[b] else epochs):
          params[b] = descend(self.ce(b), params[b], LR)
    return params

  def transfer(self, b, copies):
    """A target's epochs, each a batch."""
    fresh, found = self.algo["maps"] == "fresh", [c[LAYER]["kernel"] for c in copies]
    if fresh:
      self.maps[b] = BEGIN
    params = self.params[b]
    for _ in range(self.algo["transfer_epochs"]):
      if self.algo["variant"] == "as_coded":
        side = jnp.concatenate([*(f.T for f in found), params[LAYER]["kernel"].T], 1)
        new = (side @ self.fixed[b][:-1] + self.fixed[b][-1]) / np.sqrt(side.shape[1])
        params = params | {LAYER: params[LAYER] | {"kernel": new.T}}
        continue
      loss = functools.partial(self.loss, b, params, copies)
      self.maps[b] = descend(loss, self.maps[b], MAP_LR)
      if self.algo["variant"] == "algorithm1":
        params = descend(self.ce(b), params, LR)  # its local step
      if self.algo["write"] == "batch":
        params = with_map(params, found, self.maps[b])
        self.maps[b] = BEGIN if fresh else self.maps[b]
    if self.algo["variant"] != "as_coded" and self.algo["write"] == "epoch":
      params = with_map(params, found, self.maps[b])
    self.params[b] = params

  def loss(self, b, params, copies, map):
    """What a target minimises over its map."""
    found = [c[LAYER]["kernel"] for c in copies]
    new, x = with_map(params, found, map), self.x[b]
    if self.algo["variant"] == "eq1":
      own, star = params[LAYER]["kernel"], new[LAYER]["kernel"]
      return apart(params, x, star, own) + sum(apart(params, x, star, f) for f in found) / len(
        found
      )
    told = jnp.stack([forward(c, x) for c in copies])
    if self.algo["divergence"] == "source":
      kl = divergence(new, x, told)
    else:  # KL(Q || P)
      log_q, log_p = jax.nn.log_softmax(forward(new, x)), jax.nn.log_softmax(told)
      kl = jnp.mean(jnp.sum(jnp.exp(log_q) * (log_q - log_p), -1))
    if self.algo["variant"] == "algorithm1":
      return kl
    return (self.algo["alpha"] * self.ce(b)(new) + self.algo["beta"] * kl) / 2


@pytest.mark.parametrize(
  "choice, edges",
  [
    (dict(), HALF),
    (dict(maps="fresh"), FULL),
    (dict(maps="fresh", write="batch"), HALF),
    (dict(write="batch", divergence="target", local_epochs=0), FULL),
    (dict(variant="eq1"), FULL),
    (dict(variant="algorithm1", write="batch", local_epochs=0), HALF),  # as it is printed
    (dict(variant="as_coded"), FULL),
  ],
  ids=["kept", "fresh", "batch", "reversed", "eq1", "algorithm1", "as_coded"],
)
def test_three_rounds_follow_the_paper_step_by_step(choice, edges):
  algo = {f"algo_{k}": v for k, v in (dict(start=START, alpha=0.25, beta=0.75) | choice).items()}
  e = build(edges=edges, rounds=3, **algo)
  first = e.init()
  expected = Reference(e, jax.device_get(first)).run(3)
  found = [p for p, _ in ensembles.by_client(e, ensembles.train(e, first)[0])]
  chex.assert_trees_all_close(found, expected, rtol=1e-10, atol=1e-12)


def test_the_number_of_sources_does_not_change_how_far_a_map_moves_a_layer():
  """Sources that are all alike count as one."""
  moved = []
  for edges in (((2, 0),), HALF):
    c = config(edges=edges, rounds=1, algo_local_epochs=0)
    c.start.common = True
    state = ensembles.train(ensembles.build(c, data_=ensembles.data(3, EIGHT)))[0]
    moved.append(np.asarray(state.clients[0].params[LAYER]["kernel"][2]))
  chex.assert_trees_all_close(*moved, rtol=1e-10, atol=1e-12)


def test_a_transfer_may_follow_every_local_step():
  e = build(sizes=(20, 20, 20), algo_by_step=True, algo_transfer_epochs=1, rounds=4)
  stretches = [(v.phase.name, v.calls) for v in e.visits]
  assert stretches == [("local", 1), ("fetch", 1), ("transfer", 1)] * 4
  begun, ended = (ensembles.train(e, calls=n)[0] for n in (2, 3))
  params = lambda s, k: client(s, k)[0].params[LAYER]["kernel"]
  assert (params(begun, 2) != params(ended, 2)).any()
  assert client(ended, 2)[1].sources.peer.tolist() == [0, 1]


def client(state, k):
  return jax.device_get(jax.tree.map(lambda x: x[k], (state.clients[0], state.local[0])))


def test_a_transfer_trains_maps_alone_until_it_writes_one_layer():
  """U5: the target and its copies are frozen, but for running statistics; sources train on."""
  changes = dict(norm="batch", algo_noise=0.01)
  e = build(**changes, algo_transfer_optim=common.adam(0.01, eps=1e-12))
  names = [e.algorithm.cycle[i].name for i in range(3)]
  assert names == ["local", "fetch", "transfer"]
  before, during, after = (ensembles.train(e, calls=n)[0] for n in (2, 3, 4))
  (c0, m0), (c1, m1), (c2, m2) = (client(s, 2) for s in (before, during, after))
  chex.assert_trees_all_equal((c0.params, c0.opt_state), (c1.params, c1.opt_state))
  chex.assert_trees_all_equal(m0.sources, m1.sources, m2.sources)
  assert m0.sources.peer.tolist() == [0, 1]
  for old, new in ((c0, c1), (c1, c2)):
    moved = jax.tree.map(lambda a, b: (a != b).any(), old.model_state, new.model_state)
    assert all(jax.tree.leaves(moved))
  steps = np.abs(m1.maps[LAYER] - m0.maps[LAYER])
  assert steps.min() > 0.009 and steps.max() < 0.01  # Adam's first step
  chex.assert_trees_all_equal(
    layers.replace(c2.params, {LAYER: c1.params[LAYER]["kernel"]}), c1.params
  )
  own, found = (
    c1.params[LAYER]["kernel"],
    [client(before, a)[0].params[LAYER]["kernel"] for a in (0, 1)],
  )
  new = transfer.combine(own, np.stack(found), m2.maps[LAYER], np.ones(2, bool))
  chex.assert_trees_all_close(c2.params[LAYER]["kernel"], new, rtol=1e-12)
  for k in (0, 1):  # nobody's targets: their weights move, their maps do not
    (c0, m0), (c1, m1) = client(before, k), client(during, k)
    moved = jax.tree.map(lambda a, b: (a != b).any(), c0.params, c1.params)
    assert all(jax.tree.leaves(moved))
    chex.assert_trees_all_equal(m0.maps, m1.maps)


@pytest.mark.parametrize("maps", ["kept", "fresh"])
def test_maps_live_on_with_their_optimiser_or_start_again_at_every_fetch(maps):
  e = build(algo_transfer_optim=common.adam(0.01), algo_maps=maps)
  trained, fetched = (ensembles.train(e, calls=n)[0] for n in (4, 6))
  begin = np.broadcast_to(np.concatenate([np.zeros((5, 5)), np.eye(5)]), (3, 10, 5))
  old, new = (np.asarray(s.local[0].maps[LAYER]) for s in (trained, fetched))
  assert np.abs(old - begin)[2].min() > 0
  chex.assert_trees_all_equal(new, old if maps == "kept" else begin)
  counts = [int(np.asarray(s.local[0].opt_state[1].count)[2]) for s in (trained, fetched)]
  assert counts == [2, 2 if maps == "kept" else 0]


def test_maps_that_do_not_move_leave_separate_training_of_the_local_epochs():
  """Bit for bit for the target, in float32."""
  with jax.enable_x64(False):
    c = config(rounds=3, dtype="float32", algo_transfer_optim=descent(0.0))
    c.optim = common.sgd(lr=0.1, clip=1.0, schedule="constant")
    e = ensembles.build(c, data_=ensembles.data(3, (20, 12, 26)))
    local = e.algorithm._replace(cycle=e.algorithm.cycle[:1])
    visits = schedule.visits(local, e.streams.epoch_steps, steps=0, rounds=3)
    alone = dataclasses.replace(e, algorithm=local, visits=visits)
    ends = [ensembles.train(x)[0] for x in (e, alone)]
    chex.assert_trees_all_equal(*(client(s, 2)[0] for s in ends))
    with pytest.raises(AssertionError):
      chex.assert_trees_all_equal(*(client(s, 0)[0].params for s in ends))


def test_as_coded_nothing_learns_in_a_transfer_and_every_batch_rewrites_the_layer():
  e = build(algo_variant="as_coded", norm="batch")
  fetched, once, twice, last = (ensembles.train(e, calls=n)[0] for n in (2, 3, 4, 8))
  chex.assert_trees_all_equal(fetched.local[0].maps, last.local[0].maps)
  (c0, own), (c1, _), (c2, _) = (client(s, 2) for s in (fetched, once, twice))
  found = np.stack([client(fetched, a)[0].params[LAYER]["kernel"] for a in (0, 1)])
  for old, new in ((c0, c1), (c1, c2)):
    rewritten = transfer.overwrite(
      old.params[LAYER]["kernel"], found, own.maps[LAYER], np.ones(2, bool)
    )
    expected = layers.replace(old.params, {LAYER: np.asarray(rewritten)})
    chex.assert_trees_all_close(new.params, expected, rtol=1e-12)
    chex.assert_trees_all_equal(old.opt_state, new.opt_state)
    moved = jax.tree.map(lambda a, b: (a != b).any(), old.model_state, new.model_state)
    assert all(jax.tree.leaves(moved))


@pytest.mark.parametrize("control", usually({"RANDOM"}, ["ZEROED", "RANDOM"]))
def test_controls_receive_nothing_that_was_learned(control):
  """All else is pairwise transfer: the sources' own training too."""
  c = config()
  plain = ensembles.build(c, data_=ensembles.data(3, EIGHT))
  c.algorithm = f"pairwise:{control}"
  e = ensembles.build(c, data_=ensembles.data(3, EIGHT))
  fetched, last = (ensembles.train(e, calls=n)[0] for n in (2, 8))
  true = ensembles.train(plain, calls=2)[0].local[0].sources
  heard = fetched.local[0].sources
  chex.assert_trees_all_equal(heard.peer, true.peer)
  for s in (0, 1):
    got, own = np.asarray(heard.flat[2, s]), np.asarray(true.flat[2, s])
    if control == "ZEROED":
      assert not got.any() and own.any()
      continue
    assert (got != own).mean() > 0.8
    for a, b in zip(*(np.split(x, [5, 5 + 36 * 5])[:2] for x in (got, own)), strict=True):
      chex.assert_trees_all_equal(np.sort(a), np.sort(b))  # of Dense_0, bias and kernel
  ends = [ensembles.by_client(x, ensembles.train(x)[0]) for x in (e, plain)]
  chex.assert_trees_all_equal(ends[0][:2], ends[1][:2])
  with pytest.raises(AssertionError):
    chex.assert_trees_all_close(ends[0][2], ends[1][2], rtol=1e-6)
  assert np.isfinite(client(last, 2)[0].params[LAYER]["kernel"]).all()


def test_layers_of_different_names_are_one_where_their_shapes_are_alike():
  """The layer before the head is Dense_1 in one client, Dense_2 in another, deeper one."""
  mlp = lambda *hidden: (1, "mlp", dict(hidden=hidden, activation="tanh"))
  clients, two = (mlp(5, 5), mlp(6, 5, 5)), ensembles.data(2, (8, 8))
  change = dict(edges=((0, 1), (1, 0)), rounds=1, algo_start=0.25, algo_local_epochs=0)
  change["algo_transfer_optim"] = descent(0.0)
  with pytest.raises(ConfigError, match=r"alike.*\(5, 5\) in cohort 0, \(6, 5\) in 1"):
    ensembles.build(config(clients, algo_layers=("Dense_1",), **change), data_=two)
  e = ensembles.build(config(clients, algo_layers=(("Dense_2", "Dense_1"),), **change), data_=two)
  old, new = (ensembles.train(e, calls=n)[0].clients for n in (1, 3))
  kernel = lambda clients, g: np.asarray(clients[g].params[("Dense_1", "Dense_2")[g]]["kernel"][0])
  for own, other in ((0, 1), (1, 0)):
    expected = 0.75 * kernel(old, own) + 0.25 * kernel(old, other)
    chex.assert_trees_all_close(kernel(new, own), expected, rtol=1e-12)


def test_a_target_looks_at_copies_and_never_at_its_sources_data():
  """U8: poisoned data of a source after the fetch change the source alone."""
  source, shards = ensembles.data(3, EIGHT)
  pixels = source.train.array.copy()
  pixels[shards.private[0]] = 255 - pixels[shards.private[0]]
  poisoned = source._replace(train=dataclasses.replace(source.train, array=pixels))
  clean = ensembles.build(config(rounds=1), data_=(source, shards))
  ends = []
  for given in (source, poisoned):
    e = ensembles.build(config(rounds=1), data_=(given, shards))
    ends.append(ensembles.by_client(e, ensembles.train(e, ensembles.train(clean, calls=2)[0])[0]))
  chex.assert_trees_all_equal(ends[0][1:], ends[1][1:])
  with pytest.raises(AssertionError):
    chex.assert_trees_all_close(ends[0][0], ends[1][0], rtol=1e-6)


@pytest.mark.parametrize("alpha", usually({0.0}, [0.0, 1.0]))
def test_either_part_of_eq5_alone(alpha):
  """U3: all of alpha never hears a source's head, none of it never sees the target's labels."""
  source, shards = ensembles.data(3, EIGHT)
  labels = source.train.labels.copy()
  labels[shards.private[2]] = (labels[shards.private[2]] + 1) % ensembles.CLASSES
  relabelled = source._replace(train=dataclasses.replace(source.train, labels=labels))
  c = config(rounds=1, algo_alpha=alpha, algo_beta=1 - alpha)
  clean, other = (ensembles.build(c, data_=(given, shards)) for given in (source, relabelled))
  fetched = jax.device_get(ensembles.train(clean, calls=2)[0])

  def negated(flat):
    params, statistics = snapshots.unflatten(flat, clean.env.snapshots()[0])
    params = params | {"heads": jax.tree.map(jnp.negative, params["heads"])}
    return snapshots.flatten((params, statistics), flat.size)

  (mine,) = fetched.local
  flat = np.asarray(jax.vmap(jax.vmap(negated))(mine.sources.flat))
  headless = fetched._replace(local=(mine._replace(sources=mine.sources._replace(flat=flat)),))

  def end(e, state):
    weights, local = client(
      ensembles.train(e, jax.device_put(state, e.state_sharding(state)))[0], 2
    )
    return weights.params, local.maps

  plain, deaf, blind = end(clean, fetched), end(clean, headless), end(other, fetched)
  same, moved = (deaf, blind) if alpha else (blind, deaf)
  chex.assert_trees_all_equal(same, plain)
  with pytest.raises(AssertionError):
    chex.assert_trees_all_close(moved, plain, rtol=1e-6)


@pytest.mark.thorough
@pytest.mark.parametrize(
  "changes",
  [
    dict(algo_variant="as_coded"),
    dict(algo_variant="algorithm1", algo_write="batch", algo_noise=0.01),
  ],
)
def test_split_batches_agree(changes):
  """Three clients, so two devices split batches; other meshes: `meshes_test`."""

  def trained(mesh):
    c = config(((3, *SQUARE),), norm="batch", graph=graph(((2, 0), (2, 1), (1, 2))), **changes)
    e = ensembles.build(c, data_=ensembles.data(3, (9, 16, 12)), mesh=mesh)
    return tuple(e.env.mesh.shape.values()), ensembles.train(e)[0]

  (_, one), (split, several) = trained(1), trained(2)
  assert split == (1, 2)
  of = lambda s: (s.clients[0].params, s.clients[0].model_state, s.local[0].maps)
  chex.assert_trees_all_close(of(several), of(one), rtol=1e-10, atol=1e-12)


def test_convolutions_transfer_too():
  layer, cnn = "ConvNorm_1/Conv_0", ("cnn", dict(widths=(2, 3)))
  e = ensembles.build(
    config(((2, *cnn),), rounds=1, edges=((1, 0),), algo_layers=(layer,)),
    data_=ensembles.data(2, (8, 8)),
  )
  fetched, _ = ensembles.train(e, calls=2)
  kernel = lambda s, k: np.asarray(s.clients[0].params["ConvNorm_1"]["Conv_0"]["kernel"][k])
  source, own = kernel(fetched, 0), kernel(fetched, 1)
  assert own.shape == (3, 3, 2, 3)
  last, _ = ensembles.train(e, fetched)
  m = np.asarray(last.local[0].maps[layer][1])
  assert np.abs(m - np.concatenate([np.zeros((2, 2)), np.eye(2)])).min() > 0
  expected = np.einsum("hwjo,ji->hwio", np.concatenate([source, own], axis=2), m)
  chex.assert_trees_all_close(kernel(last, 1), expected, rtol=1e-10, atol=1e-12)


def test_layers_must_be_there_and_alike():
  with pytest.raises(ConfigError, match="algo.layers = 'Dense_7': .*client 0, a mlp, has Dense_0"):
    build(algo_layers=("Dense_7",))
  with pytest.raises(ConfigError, match=r"alike.*\(36, 8\) in cohort 0, \(36, 10\) in 1"):
    ensembles.build(config(TWO, algo_layers=("Dense_0",)), data_=ensembles.data())
  with pytest.raises(ConfigError, match="at least one path"):
    build(algo_layers=())


@pytest.mark.parametrize(
  "key, value, right",
  [
    ("beta", 0.5, "0.7"),
    ("alpha", -0.1, "at least 0"),
    ("variant", "eq2", "eq5, eq1, algorithm1, as_coded"),
    ("divergence", "both", "source, target"),
    ("maps", "lost", "kept, fresh"),
    ("start", 1.5, "at most 1"),
    ("local_epochs", -1, "at least 0"),
    ("write", "never", "epoch, batch"),
    ("noise", -1.0, "at least 0"),
    ("transfer_epochs", 0, "at least 1"),
    ("sources", -1, "at least 0"),
  ],
)
def test_what_cannot_be_is_refused(key, value, right):
  with pytest.raises(ConfigError, match=f"algo.{key} = .*{right}"):
    build(**{f"algo_{key}": value})


def test_the_maps_optimiser_is_checked_under_its_own_name():
  with pytest.raises(ConfigError, match="algo.transfer_optim.name = 'sdg'"):
    build(algo_transfer_optim=descent(0.1) | {"name": "sdg"})
  with pytest.raises(ConfigError, match="algo.transfer_optim.lr = -0.1: must not be negative"):
    build(algo_transfer_optim=descent(-0.1))
  with pytest.raises(ConfigError, match="algo.transfer_optim.weight_decay = 0.1"):
    build(algo_transfer_optim=common.adam(0.1, weight_decay=0.1))


def labelled(*classes):
  """Data of clients that each hold eight examples of each of some classes; one replica's."""
  source, _ = ensembles.data(4, (40,))
  labels = source.train.labels
  parts = [np.concatenate([np.flatnonzero(labels == c)[:8] for c in own]) for own in classes]
  counts = np.stack([np.bincount(labels[p], minlength=ensembles.CLASSES) for p in parts])
  rest = np.arange(8)
  return source, Shards(tuple(parts), (rest,), ((),) * len(parts), counts)


def test_the_best_sources_are_those_with_most_examples_of_new_classes():
  data = labelled((0,), (0, 1), (1, 2, 3), (2,))
  complete = dict(kind="complete", every=0, island=2, degree=2, edges=(), seed=0)
  c = config(((4, *SQUARE),), graph=complete, algo_sources=1, rounds=1)
  e = ensembles.build(c, data_=data)
  # New to 0 are 24 examples of 2, to 1 16 of 2, to 2 8 of 0 and of 1, to 3 16 of 1 and of 2.
  assert e.algorithm.facts(1)["sources"] == [[[2], [2], [0], [1]]]
  state, _ = ensembles.train(e)
  assert np.asarray(state.local[0].sources.peer).tolist() == [[2], [2], [0], [1]]
  weights = 36 * 5 + 5 + 5 * 5 + 5 + 5 * 4 + 4
  sent = schedule.bytes_sent(e.algorithm, e.visits, 4)
  assert sent == {"checkpoints": 4 * 8 * weights}


def test_replicas_choose_for_themselves():
  first, second = labelled((0,), (0, 1), (1, 2, 3)), labelled((0,), (1, 2, 3), (0, 1))
  shards = [
    tuple(a) + tuple(b)
    for a, b in zip(dataclasses.astuple(first[1]), dataclasses.astuple(second[1]), strict=True)
  ]
  shards[3] = np.stack(shards[3])
  c = config(replicas=2, edges=((0, 1), (0, 2)), algo_sources=1, rounds=1)
  e = ensembles.build(c, data_=(first[0], Shards(*shards)))
  assert e.algorithm.facts(1)["sources"] == [[[2], [], []], [[1], [], []]]
  state, _ = ensembles.train(e, calls=4)  # an epoch is three batches; then the fetch
  assert np.asarray(state.local[0].sources.peer)[:, 0].tolist() == [2, -1, -1, 4, -1, -1]


def test_every_source_costs_a_forward_pass_and_all_together_one_map():
  """U9; the maps are one a layer, whatever the number of sources."""
  cost = build(edges=((1, 0), (2, 0), (2, 1))).algorithm.facts(1)["transfer"]
  with_, without = np.array(cost["flops_per_batch"]), np.array(cost["flops_per_batch_without"])
  one = (with_ - without)[1]
  maps = 3 * 2 * 10 * 5 * 5
  assert one == without[0] / 3 + maps
  assert (with_ - without).tolist() == [0, one, 2 * one - maps]
  products = 8 * 2 * (36 * 5 + 5 * 5 + 5 * 4)  # of a batch of eight
  assert products < without[0] / 3 < 2 * products
  assert cost["messages_per_round"] == 3
