"""FedGKT: rounds step by step, who knows what when, and what it costs."""

import functools
import json

import chex
import ensembles
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

import kdjax
from kdjax.algorithms.fedgkt import drift, server
from kdjax.algorithms.fedgkt.method import network
from kdjax.core.env import DRAWN, STATE, sharded
from kdjax.data import feed
from kdjax.ending import DONE
from kdjax.training import loop, schedule
from kdjax.training.stepper import Dispatch, Stepper
from kdjax.types import Batch, ConfigError

MLP = ((4, *ensembles.MLP),)
TWO = ((2, *ensembles.MLP), (2, *ensembles.WIDE))
NET = dict(norm="none", dtype="float64", project=0)
DROPS = dict(NET, filters=(4, 4), dropout=0.2)
SINGLE = dict(NET, dtype="float32", hidden=(3,), activation="relu")
OFF = dict(factor=0.5, patience=0)
SIZES = (20, 24, 30, 26)  # of the clients of `ensembles.data`


@pytest.fixture(autouse=True)
def float64():
  with jax.enable_x64(True):
    yield


def build(
  method="fedgkt",
  clients=MLP,
  *,
  rounds=2,
  steps=0,
  mesh=1,
  local_map=None,
  data_=None,
  **changes,
):
  algo = {k: changes.pop(k) for k in tuple(changes) if k.startswith("algo_")}
  c = ensembles.config(method, clients, **changes)
  c.algo = c.algo.to_dict() | {k.removeprefix("algo_"): v for k, v in algo.items()}
  c.rounds, c.steps = rounds, steps
  if "optim" not in changes:
    c.optim = descent(LR)
  if "algo_server_optim" not in algo:
    c.algo.server_optim = descent(SERVER_LR)
  return ensembles.build(c, mesh=mesh, local_map=local_map, data_=data_)


def descent(lr):
  return ensembles.common.sgd(lr=lr, clip=0.0, schedule="constant", weight_decay=0.0)


def visit(e, name, round):
  return next(v for v in e.visits if v.phase.name == name and v.round == round)


def walk(e, state=None):
  """The states after all visits, on the host: {(phase, round): TrainState}."""
  stepper, out = Stepper(e), {}
  state = stepper.init() if state is None else state
  for one in stepper.dispatches(int(state.calls)):
    state, _ = stepper.run(state, one)
    if one.ends_visit:
      out[one.visit.phase.name, one.visit.round] = jax.device_get(state)
  return out


@functools.cache
def two_rounds():
  """(experiment, its states) of what most tests look at."""
  e = build()
  return e, walk(e)


def assert_differ(a, b):
  with pytest.raises(AssertionError):
    chex.assert_trees_all_close(a, b, rtol=1e-6)


def positions(e, v):
  total = schedule.totals(e.visits)[v.number]
  return [schedule.position(v, i, total) for i in range(v.calls)]


def arrived(e, round):
  """Clients that the server works for in a round."""
  v = visit(e, "server", round)
  rows = [v.phase.feed.server(pos) for pos in positions(e, v)]
  return {int(k) for r in rows for k in r.owner[r.mask > 0]}


def predict(e, state, images):
  """{entry: [K, N, C]} on one device."""
  run = lambda state, images: e.algorithm.predict(state, images)
  said = jax.jit(sharded(e.env, run, (STATE, P()), P()))(state, images)
  return {entry: np.concatenate(z)[:, :, 0] for entry, z in said.items()}


def seen(e, index):
  """Examples as the models see them."""
  return jax.vmap(e.view)(e.data.source.train.array[index]).astype(jnp.float64)


# Rounds, step by step


def forward(params, x):
  """(embedding, logits) of an MLP of one hidden layer."""
  dense, main = params["Dense_0"], params["heads"]["main"]
  h = jnp.tanh(x.reshape(len(x), -1) @ dense["kernel"] + dense["bias"])
  return h, h @ main["kernel"] + main["bias"]


def loss(params, x, y, mask, said, T, weights):
  """`weights[0]` CE + `weights[1]` T^2 KL(said || own), means over unmasked examples."""
  z = forward(params, x)[1]
  p, q = jax.nn.softmax(said / T), jax.nn.softmax(z / T)
  ce = -jax.nn.log_softmax(z)[jnp.arange(len(y)), y]
  kl = T**2 * (p * (jnp.log(p) - jnp.log(q))).sum(1)
  return ((weights[0] * ce + weights[1] * kl) * mask).sum() / mask.sum()


gradient = jax.jit(jax.grad(loss))
LR, SERVER_LR = 0.25, 0.125  # exact in float32


def descend(net, lr, *args):
  """SGD with momentum 0.9."""
  momentum = jax.tree.map(lambda m, g: 0.9 * m + g, net[1], gradient(net[0], *args))
  return jax.tree.map(lambda p, m: p - lr * m, net[0], momentum), momentum


class Reference:
  """The whole run, one client after the other."""

  def __init__(self, e, edge_weight, server_weights):
    state = jax.device_get(e.init())
    fresh = lambda tree, k: (
      tree := jax.tree.map(lambda x: x[k], tree),
      jax.tree.map(np.zeros_like, tree),
    )
    self.e, self.T = e, e.config["algo"]["temperature"]
    self.holds, self.answers = e.config["algo"]["trains_on"] == "all", e.config["algo"]["answers"]
    self.edge_weight, self.server_weights = edge_weight, server_weights
    self.edges = [fresh(state.clients[0].params, k) for k in range(4)]
    self.net = fresh(state.server.network.params, 0)
    self.h, self.z, self.answer = np.zeros((4, 30, 8)), np.zeros((4, 30, 4)), np.zeros((4, 30, 4))
    self.y, self.answered = np.full((4, 30), -1), np.zeros(4, bool)
    self.held = [np.copy(x) for x in (self.h, self.z, self.y)]
    for v in e.visits:
      for pos in positions(e, v) if v.phase.name != "drift" else ():
        getattr(self, v.phase.name)(v.phase, pos)

  def batches(self, phase, pos):
    """(client, rows, images, labels, mask) of those who have examples."""
    half = self.e.streams.batch(phase.feed, phase.name, pos)["private"]
    for k in range(4):
      if half.mask[k].any():
        yield k, half.row[k], seen(self.e, half.index[k]), half.label[k], half.mask[k]

  def edge(self, phase, pos):
    for k, rows, x, y, mask in self.batches(phase, pos):
      weights = (1.0, self.edge_weight * self.answered[k])
      self.edges[k] = descend(self.edges[k], LR, x, y, mask, self.answer[k, rows], self.T, weights)

  def upload(self, phase, pos):
    for k, rows, x, y, mask in self.batches(phase, pos):
      live = mask > 0
      h, z = forward(self.edges[k][0], x[live])
      self.h[k, rows[live]], self.z[k, rows[live]], self.y[k, rows[live]] = h, z, y[live]

  def server(self, phase, pos):
    ((k,), (row,), (mask,)), turn = phase.feed.server(pos), phase.args(pos)
    for mine, sent in zip(self.held, (self.h, self.z, self.y), strict=True):
      mine[turn.arrived] = sent[turn.arrived]
    h, z, y = self.held if self.holds else (self.h, self.z, self.y)
    net = self.net[0]
    if turn.train:
      batch = h[k, row], y[k, row], mask, z[k, row]
      self.net = descend(self.net, SERVER_LR, *batch, self.T, self.server_weights)
    net = net if self.answers == "before" else self.net[0]
    if not turn.answer_mask.any():
      return
    k, row = k[turn.answer_mask[0] > 0], row[turn.answer_mask[0] > 0]
    self.answer[k, row], self.answered[k] = forward(net, h[k, row])[1], True


@pytest.mark.parametrize(
  "method, changes, edge, server",
  [
    ("fedgkt", dict(algo_alpha=0.7, algo_server_epochs=2), 0.7, (0.7, 1.0)),
    ("fedgkt async", dict(algo_present=0.6, algo_plateau=OFF, seed=3, rounds=3), 1.0, (1.0, 1.0)),
    ("fedgkt", dict(algo_server_distils=False, algo_alpha=0.7, rounds=1), 0.7, (1.0, 0.0)),
    ("fedgkt", dict(algo_answers="before", algo_order="client"), 1.0, (1.0, 1.0)),
    (
      "fedgkt async",
      dict(
        algo_trains_on="all",
        algo_answers="after",
        algo_present=0.6,
        algo_plateau=OFF,
        seed=3,
        rounds=3,
      ),
      1.0,
      (1.0, 1.0),
    ),
  ],
  ids=["together", "in groups", "server without distillation", "as coded", "all it holds"],
)
def test_rounds_are_what_they_are_step_by_step(method, changes, edge, server):
  """Clients of unequal sizes; without distillation the server is trained on features (U1)."""
  e = build(method, **changes)
  reference, state = Reference(e, edge, server), jax.device_get(ensembles.train(e)[0])
  near = lambda a, b: chex.assert_trees_all_close(a, b, rtol=1e-10, atol=1e-12)
  one = lambda tree, k: jax.tree.map(lambda x: x[k], tree)
  for k in range(4):
    near(one(state.clients[0].params, k), jax.device_get(reference.edges[k][0]))
  near(
    tuple(state.local[0])[:5],
    tuple(getattr(reference, n) for n in ("h", "z", "y", "answer", "answered")),
  )
  near(one(state.server.network.params, 0), jax.device_get(reference.net[0]))


@pytest.mark.thorough
def test_meshes_agree_on_a_server_without_keys():
  """All state, with BatchNorm over the server's whole batch; with keys: `meshes_test`."""
  one, four = (build("fedgkt", TWO, mesh=m, norm="batch", algo_keyed=False) for m in (1, 4))
  assert tuple(four.env.mesh.shape.values()) == (2, 2)
  states = [jax.device_get(ensembles.train(e)[0]) for e in (one, four)]
  chex.assert_trees_all_close(*states, rtol=1e-10, atol=1e-10)


@pytest.mark.thorough
def test_replicas_folded_into_one_run_give_the_same_bits():
  source, shards = ensembles.data(R=2)
  own = shards.__class__(shards.private[4:], shards.public[1:], ((),) * 4, shards.label_counts[4:])
  small = dict(norm="batch", dtype="float32", local_map="scan")
  folded = build(data_=(source, shards), replicas=2, **small)
  second = build(data_=(source, own), seed=1, **small)
  together, alone = (ensembles.train(e)[0] for e in (folded, second))
  parts = lambda state: jax.device_get((state.clients, state.local, state.server))
  halves = jax.tree.map(lambda x: x.reshape(2, -1, *x.shape[1:])[1], parts(together))
  chex.assert_trees_all_equal(halves, parts(alone))


# Who knows what when


def test_in_the_first_round_clients_use_cross_entropy_alone():
  """U4, and U2: without distillation they never hear of any server."""
  _, hearing = two_rounds()
  deaf, other = (
    walk(
      build(algo_edge_distils=False, algo_server=("mlp", dict(NET, hidden=(n,), activation="relu")))
    )
    for n in (3, 5)
  )
  chex.assert_trees_all_equal(deaf["edge", 0].clients, hearing["edge", 0].clients)
  chex.assert_trees_all_equal(deaf["edge", 1].clients, other["edge", 1].clients)
  assert_differ(deaf["edge", 1].clients, hearing["edge", 1].clients)


@pytest.mark.parametrize("distils", [False, True])
def test_a_server_without_distillation_never_hears_what_edges_say(distils):
  """U2: logits of the edge that are poisoned after their upload."""
  e = build(rounds=1, algo_edge_distils=False, algo_server_distils=distils)
  clean = walk(e)
  state = clean["upload", 0]
  state = state._replace(local=tuple(m._replace(logits=-m.logits) for m in state.local))
  poisoned = walk(e, jax.device_put(state, e.state_sharding(state)))
  ends = [states["server", 0].server.network for states in (clean, poisoned)]
  (assert_differ if distils else chex.assert_trees_all_equal)(*ends)


def test_no_phase_trains_another_ones_network():
  """U8."""
  _, states = two_rounds()
  edge, uploaded, served, later = (
    states[v] for v in (("edge", 0), ("upload", 0), ("server", 0), ("edge", 1))
  )
  chex.assert_trees_all_equal(edge.clients, uploaded.clients, served.clients)
  chex.assert_trees_all_equal(edge.server, uploaded.server)
  chex.assert_trees_all_equal(served.server, later.server)
  assert_differ(uploaded.server.network, served.server.network)
  assert_differ(served.clients, later.clients)


def test_the_stitched_model_says_what_the_server_answered():
  """U7, in evaluation mode, for every example of everyone; `alone` is one client's of it."""
  e = build(clients=TWO, rounds=1, norm="batch")
  state = jax.device_get(ensembles.train(e)[0])
  for k, n in enumerate(SIZES):
    images = seen(e, e.data.shards.private[k])
    said = predict(e, state, images)
    memory, place = state.local[k // 2], k % 2
    np.testing.assert_allclose(said[""][k], memory.answer[place, :n], rtol=1e-12)
    np.testing.assert_allclose(said["edge"][k], memory.logits[place, :n], rtol=1e-12)
    one = jax.tree.map(lambda x, place=place: x[place], state.clients[k // 2])
    net = jax.tree.map(lambda x: x[0], state.server)
    alone = e.algorithm.client_logits(k // 2, one, net, images)
    np.testing.assert_allclose(alone[:, 0], said[""][k], rtol=1e-12)


def test_uploads_are_kept_by_row_however_the_pass_is_shuffled():
  """U11; without keys each example's place in the pass is filled, by another one."""
  e, keyed = two_rounds()
  other = walk(build(algo_keyed=False))
  memory, mixed = (states["upload", 0].local[0] for states in (keyed, other))
  for k, n in enumerate(SIZES):
    index = e.data.shards.private[k]
    np.testing.assert_array_equal(memory.label[k, :n], e.data.source.train.labels[index])
    assert (memory.feature[k, :n] != mixed.feature[k, :n]).any()
    ordered = [x[np.lexsort(x.T)] for x in (memory.feature[k, :n], mixed.feature[k, :n])]
    np.testing.assert_allclose(*ordered, rtol=1e-12)
    assert not memory.feature[k, n:].any() and not mixed.feature[k, n:].any()
  chex.assert_trees_all_equal(keyed["edge", 0].clients, other["edge", 0].clients)
  assert_differ(keyed["edge", 1].clients, other["edge", 1].clients)


def test_the_server_learns_the_mean_of_what_has_come():
  """Of the first batch every other row was refused: its loss is that of the rest alone."""
  e = build(rounds=1)
  stepper, losses = Stepper(e), {}
  state = stepper.init()
  for one in stepper.dispatches(0):
    if one.visit.phase.name == "server":
      break
    state, _ = stepper.run(state, one)
  rows = one.visit.phase.feed.server(positions(e, one.visit)[0])
  (memory,) = state.local
  owner, row = rows.owner[0][rows.mask[0] > 0], rows.row[0][rows.mask[0] > 0]
  lost = jnp.zeros(memory.label.shape, bool).at[owner[::2], row[::2]].set(True)
  refused = memory._replace(label=jnp.where(lost, -1, memory.label))
  params = jax.tree.map(lambda x: x[0], jax.device_get(state.server.network.params))
  told = jax.device_get(memory)
  for kept, local in ((slice(None), memory), (slice(1, None, 2), refused)):
    begun = jax.tree.map(jnp.copy, state._replace(local=(local,)))  # a step donates its state
    _, aux = stepper.run(begun, one._replace(calls=1))
    at = owner[kept], row[kept]
    x, y, said = told.feature[at], told.label[at], told.logits[at]
    weights = (e.config["algo"]["alpha"], 1.0)
    expected = loss(params, x, y, np.ones(len(y)), said, 3.0, weights)
    np.testing.assert_allclose(aux["loss"], expected, rtol=1e-9)
    losses[len(y)] = float(expected)
  assert len(set(losses.values())) == 2


def test_the_order_of_clients_in_a_full_batch_changes_nothing():
  """U6."""
  e = build(algo_server_batch=sum(SIZES))
  v = visit(e, "server", 0)
  assert v.calls == 2  # one step, one batch of answers
  stepper = Stepper(e)
  batches, nows, count = stepper.inputs(Dispatch(v, 0, 1))
  order = np.random.default_rng(0).permutation(sum(SIZES))
  moved = batches._replace(server=jax.tree.map(lambda x: x[..., order], batches.server))
  ends = []
  for b in (batches, moved):
    state, _ = ensembles.train(e, calls=v.start, stepper=stepper)
    state, _ = stepper.run(state, Dispatch(v, 0, 1), (b, nows, count))
    ends.append(jax.device_get(state.server.network.params))
  chex.assert_trees_all_close(*ends, rtol=1e-12, atol=1e-14)


def test_who_does_not_arrive_keeps_its_answers():
  e = build(algo_present=0.6, seed=3, rounds=3)
  came, states = [arrived(e, t) for t in range(3)], walk(e)
  assert came == [{0, 1, 3}, {2, 3}, {2}]
  before, known = np.zeros_like(states["edge", 0].local[0].answer), set()
  for t in range(3):
    memory, known = states["server", t].local[0], known | came[t]
    np.testing.assert_array_equal(memory.answered, [k in known for k in range(4)])
    changed = (memory.answer != before).any((1, 2))
    np.testing.assert_array_equal(changed, [k in came[t] for k in range(4)])
    before = memory.answer


def test_an_early_group_is_answered_by_a_server_that_has_not_seen_the_others():
  e = build(algo_arrivals=2, rounds=1)
  v = visit(e, "server", 0)
  train = [v.phase.args(pos).train for pos in positions(e, v)]
  early = train.index(True, train.index(False))  # calls until the second group's first batch
  rows = [v.phase.feed.server(pos) for pos in positions(e, v)[:early]]
  first = sorted({int(k) for r in rows for k in r.owner[r.mask > 0]})
  late = sorted(set(range(4)) - set(first))
  assert len(first) == 2
  half, _ = ensembles.train(e, calls=v.start + early)
  half, server = jax.device_get((half.local[0], half.server.network))
  end = walk(e)["server", 0]
  np.testing.assert_array_equal(half.answered, [k in first for k in range(4)])
  np.testing.assert_array_equal(half.answer[first], end.local[0].answer[first])
  assert not half.answer[late].any() and end.local[0].answer[late].all(2).any()
  assert_differ(server, end.server.network)


def test_answers_of_the_training_pass_are_in_training_mode():
  """All uploads in one batch: with BatchNorm, by its statistics and by those of before."""
  e = build(norm="batch", rounds=1, algo_server_batch=sum(SIZES), algo_answers="before")
  states, v = walk(e), visit(e, "server", 0)
  assert v.calls == 1
  model = network(e.env, tuple(e.config["algo"]["server"]))
  before, end = states["upload", 0], states["server", 0].local[0]
  h = np.concatenate([before.local[0].feature[k, :n] for k, n in enumerate(SIZES)])[None]

  def both(net, h):
    return server.logits(e.env, model, net, h, jnp.ones(h.shape[:2])), server.logits(
      e.env, model, net, h
    )

  run = jax.jit(sharded(e.env, both, P(), P()))
  training, evaluation = run(before.server.network, h)
  said = np.concatenate([end.answer[k, :n] for k, n in enumerate(SIZES)])
  np.testing.assert_allclose(said, training[0], rtol=1e-10)
  assert_differ(said, np.asarray(evaluation[0]))


CROPS = dict(kind="crop_flip", padding=2, flip=True)


def views(e, name, round):
  """What the models see of a client's rows in a visit: {(client, row): image}."""
  stepper, v, found = Stepper(e), visit(e, name, round), {}

  def see(batch, now, tables):
    half = feed.materialise(e.env, v.phase, tables, batch, now, e.augment, e.preprocess).private[0]
    return half.image, half.row, half.mask

  run = jax.jit(sharded(e.env, see, (Batch(DRAWN, DRAWN, P()), P(), P()), DRAWN))
  for i in range(v.calls):
    batch, now, _ = stepper.inputs(Dispatch(v, i, 1))
    batch, now = jax.tree.map(lambda x: x[0], (batch, now))
    image, row, mask = jax.device_get(run(batch, now, stepper.tables))
    found |= {(k, int(row[k, b])): image[k, b] for k, b in np.argwhere(mask > 0)}
  return found


def test_keyed_logits_belong_to_the_crop_that_the_edge_trains_on():
  """Of clients that did not arrive, to the crop of the last upload that did."""
  e = build(augment=CROPS, algo_present=0.6, seed=3, rounds=3, clients=((4, *ensembles.CNN),))
  assert [arrived(e, t) for t in range(2)] == [{0, 1, 3}, {2, 3}]
  uploads = [views(e, "upload", t) for t in range(2)]
  edge = views(e, "edge", 2)
  for (k, row), image in edge.items():
    last = {0: 0, 1: 0, 2: 1, 3: 1}[k]
    np.testing.assert_array_equal(image, uploads[last][k, row])
  assert sum((edge[key] != uploads[0][key]).any() for key in edge if key[0] > 1) > 25
  other = views(build(augment=CROPS, algo_keyed=False, clients=((4, *ensembles.CNN),)), "edge", 1)
  assert sum((other[key] != uploads[0][key]).any() for key in other) > 50


# The server's optimiser, and the plateau


def test_edges_of_rate_0_are_frozen_while_the_server_learns():
  e = build(optim=descent(0.0))
  start, end = jax.device_get(Stepper(e).init()), walk(e)["server", 1]
  chex.assert_trees_all_equal(start.clients[0].params, end.clients[0].params)
  assert_differ(start.server.network.params, end.server.network.params)
  adam = ensembles.common.adam(lr=0.01)
  moments = build(algo_server_optim=adam).shapes().server.network.opt_state
  assert len(jax.tree.leaves(moments)) > len(jax.tree.leaves(e.shapes().clients[0].opt_state))


def test_the_log_shows_the_rate_that_the_plateau_left(tmp_path):
  """No round after the first improves on it: halved after the second and the third."""
  e = build(
    rounds=4,
    optim=descent(0.0),
    algo_server_optim=descent(2.0**-40),
    algo_plateau=dict(factor=0.5, patience=1),
  )
  assert loop.run(e, tmp_path, command="") == DONE
  lines = [json.loads(x) for x in (tmp_path / "metrics.jsonl").read_text().splitlines()]
  rates = [x["lr"] for x in lines if x["phase"] == "server"]
  assert list(dict.fromkeys(rates)) == [2.0**-40, 2.0**-41, 2.0**-42]


@pytest.mark.parametrize("patience, scale", [(1, 0.25), (2, 0.5), (0, 1.0)])
def test_rounds_without_improvement_lower_the_servers_rate(patience, scale):
  """With a rate of 0 no round after the first improves."""
  plateau, still = dict(factor=0.5, patience=patience), descent(0.0)
  e = build(rounds=3, optim=still, algo_server_optim=still, algo_plateau=plateau)
  assert ensembles.train(e)[0].server.plateau.scale == scale


def test_the_scale_multiplies_the_servers_rate_alone():
  e, states = two_rounds()
  before = states["upload", 0]
  halted = before.server.plateau._replace(scale=np.zeros(1))
  state = before._replace(server=before.server._replace(plateau=halted))
  after = walk(e, jax.device_put(state, e.state_sharding(state)))
  chex.assert_trees_all_equal(
    after["server", 0].server.network.params, before.server.network.params
  )
  assert_differ(after["edge", 1].clients, before.clients)


# Drift


@pytest.mark.parametrize(
  "clients, cut, expected",
  [(MLP, "embedding", {"Dense_0"}), (((4, *ensembles.CNN),), "layer1", {"ConvNorm_0"})],
)
def test_the_extractor_is_what_the_feature_is_made_of(clients, cut, expected):
  e = build(clients=clients, algo_cut=cut)
  (cohort,) = e.env.cohorts
  used = jax.tree.unflatten(
    jax.tree.structure(cohort.template.params), drift.extractor(e.env, cohort, cut)
  )
  assert {name for name, module in used.items() if any(jax.tree.leaves(module))} == expected
  assert all(jax.tree.leaves([used[name] for name in expected]))


@pytest.mark.parametrize("mesh", [1, 4])
def test_drift_is_the_distance_from_the_mean_extractor(mesh):
  e = build(rounds=1, mesh=mesh)
  stepper = Stepper(e)
  state = stepper.init()
  for one in stepper.dispatches(0):
    state, aux = stepper.run(state, one)
    if one.visit.phase.name == "drift":
      break
  assert e.algorithm.cycle[1].log
  layer = jax.device_get(state.clients[0].params["Dense_0"])
  w = np.concatenate([layer[n].reshape(4, -1) for n in ("kernel", "bias")], 1)
  expected = np.linalg.norm(w - w.mean(0), axis=1) / np.linalg.norm(w.mean(0))
  np.testing.assert_allclose(aux[0]["drift"], expected, rtol=1e-12)


def test_answers_after_a_step_cost_a_pass_in_the_last_epoch_alone(monkeypatch):
  """Seven batches an epoch; what earlier epochs would answer is overwritten."""
  passes, logits = [], server.logits

  def counted(*args):
    jax.debug.callback(lambda: passes.append(1))
    return logits(*args)

  monkeypatch.setattr(server, "logits", counted)
  walk(build(rounds=1, algo_answers="after", algo_server_epochs=3, algo_server_batch=16))
  assert len(passes) == -(-sum(SIZES) // 16)


def test_what_is_cut_off_at_the_embedding_is_what_the_heads_read():
  """Not the projection, which no loss of FedGKT trains."""
  model = dict(norm="none", dtype="float64", project=3)
  plain, projected = walk(build(rounds=1)), walk(build(rounds=1, model=model))
  for state in (projected["upload", 0], projected["server", 0]):
    assert state.local[0].feature.shape[-1] == 8
  same = plain["server", 0].local, projected["server", 0].local
  chex.assert_trees_all_close(*same, rtol=1e-12)


# What it costs


def test_bytes_are_those_of_who_arrives():
  """U10: features of width 8 and logits of 4 classes in float32, labels in int32."""
  e = build("fedgkt async", dtype="float32", algo_present=0.5, rounds=3)
  last = e.visits[-1]
  n = sum(SIZES[k] for t in range(3) for k in arrived(e, t))
  assert 0 < n < 3 * sum(SIZES)
  sent = schedule.bytes_sent(e.algorithm, e.visits, last.start + last.calls)
  assert sent == {"features": n * 8 * 4, "logits": 2 * n * 4 * 4, "labels": n * 4}


def test_the_papers_formulas_and_flops():
  e = build(dtype="float32", algo_edge_epochs=3, algo_server_epochs=((1, 5), (2, 2)))
  facts, n = e.algorithm.facts(2), sum(SIZES)
  assert facts["communication"] == {
    "fedgkt_eq13": 2 * n * (8 + 4) * 4,
    "split_learning_eq12": 2 * n * 2 * 8 * 4 * 3,
  }
  sent = schedule.bytes_sent(e.algorithm, e.visits, visit(e, "edge", 1).start)
  assert sum(sent.values()) == n * (8 + 4 + 1 + 4) * 4
  flops = facts["flops"]
  edge, net = 2 * (36 * 8 + 8 * 4), 2 * (8 * 6 + 6 * 4)  # of the products
  assert edge <= flops["forward_edge"] <= 1.1 * edge and net <= flops["forward_server"] <= 1.2 * net
  np.testing.assert_allclose(flops["edge"], flops["forward_edge"] * n / 4 * 2 * (3 * 3 + 1))
  served = flops["forward_server"] * n * (3 * 5 + 1 + 3 * 2 + 1)
  np.testing.assert_allclose(flops["server"], served)


# Batches of 8: a round is 2 x 4 of the edges, 4 uploads, and 2 x 7 + 7 of the server.
@pytest.mark.parametrize("steps", [5, 8, 10, 12, 20, 27, 33, 33 + 13, 33 + 33])
def test_a_round_that_steps_cut_short_is_counted_as_far_as_it_goes(steps):
  changes = dict(algo_edge_epochs=2, algo_server_epochs=2, algo_order="shuffled")
  e = build(rounds=0, steps=steps, dtype="float32", algo_server_batch=16, batch=8, **changes)
  facts, n = e.algorithm.facts(e.visits[-1].round + 1), sum(SIZES)
  seen = lambda name: e.streams.processed(v for v in e.visits if v.phase.name == name)
  forward, found = facts["flops"]["forward_edge"], facts["flops"]
  np.testing.assert_allclose(found["edge"], forward * (3 * seen("edge") + seen("upload")).mean())
  served = 0
  for v in e.visits:
    for pos in positions(e, v) if v.phase.name == "server" else ():
      served += v.phase.feed.server(pos).mask.sum() * (3 if v.phase.args(pos).train else 1)
  np.testing.assert_allclose(found["server"], found["forward_server"] * served)
  last = e.visits[-1]
  sent = schedule.bytes_sent(e.algorithm, e.visits, last.start + last.calls)
  uploaded = sent.get("features", 0) // (n * 8 * 4)
  assert facts["communication"] == {
    "fedgkt_eq13": sent.get("features", 0) + sent.get("logits", 0) - uploaded * n * 4 * 4,
    "split_learning_eq12": seen("edge").sum() * 2 * 8 * 4,
  }


def test_flops_of_a_server_that_learns_from_all_it_holds():
  """Two groups a round, each learnt from for an epoch, and answered there."""
  changes = dict(algo_trains_on="all", algo_server_epochs=1, algo_answers="after")
  e = build("fedgkt async", dtype="float32", algo_present=1.0, **changes)
  v = visit(e, "server", 0)
  first = {int(k) for r in [v.phase.feed.server(positions(e, v)[0])] for k in r.owner[r.mask > 0]}
  early = {k for pos in positions(e, v) for k in np.flatnonzero(v.phase.args(pos).arrived)}
  assert first < early == {0, 1, 2, 3}
  group = np.flatnonzero(v.phase.args(positions(e, v)[0]).arrived)
  n = sum(SIZES)
  learnt = sum(SIZES[k] for k in group) + n + 2 * n
  flops = e.algorithm.facts(2)["flops"]
  np.testing.assert_allclose(flops["server"], flops["forward_server"] * learnt * 4)


# A run, and refusals


@pytest.mark.thorough
def test_a_run_of_split_networks_learns_and_its_clients_can_be_used(tmp_path):
  edge = ("split_cnn:Edge", dict(front=((4, 1),), widths=(4,)))
  c = ensembles.config(
    "fedgkt", ((2, *edge), (2, "split_cnn", dict(front=((4, 1),), widths=(6, 8))))
  )
  with jax.enable_x64(False):
    small = dict(norm="batch", dtype="float32", project=0)
    c.model = small
    c.algo.server = ("split_cnn:Server", dict(widths=(8, 16), **small))
    c.algo.cut, c.algo.server_epochs, c.rounds = "extractor", 3, 4
    c.source_info.update(train=124, test=37)
    c.skew, c.labels, c.batch = 0.0, 1, 4
    c.optim = ensembles.common.sgd(lr=0.1, clip=1.0, schedule="constant")
    c.evals.accuracy.every = 0
    e = ensembles.build(c)
    assert loop.run(e, tmp_path, command="") == DONE
    summary = json.loads((tmp_path / "summary.json").read_text())
    accuracy = summary["shared_accuracy"]
    assert set(accuracy) == {"main", "edge/main"} and min(accuracy["main"]) > 0.6  # chance: 0.25
    assert summary["flops"]["forward_server"] > summary["flops"]["forward_edge"]
    lines = [json.loads(x) for x in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    served = [x for x in lines if x["phase"] == "server"]
    assert served[-1]["loss"] < served[0]["loss"]
    test = e.data.source.test
    for k in (0, 3):
      p = kdjax.load(tmp_path, client=k).predict(test.array)["main"]
      hit = np.argmax(p, -1) == test.labels
      by_class = [hit[test.labels == c].mean() for c in range(ensembles.CLASSES)]
      np.testing.assert_allclose(np.mean(by_class), accuracy["main"][k], rtol=1e-6)


@pytest.mark.parametrize(
  "clients, changes, key, right",
  [
    (((4, *ensembles.CNN),), dict(algo_cut="layer9"), "cut", "cnn has embedding, layer1, layer2"),
    (
      ((2, "cnn", dict(widths=(4,))), (2, "cnn", dict(widths=(6,)))),
      dict(algo_cut="layer1"),
      "cut",
      r"cnn \(6, 6, 4\) float64, cnn \(6, 6, 6\) float64",
    ),
    (MLP, dict(algo_server=("mlp", dict(NET, hidden=(3,)))), "server", "activation is missing"),
    (MLP, dict(algo_server="mlp"), "server", "text, a group of keys"),
    (MLP, dict(algo_server=(6, NET)), "server", "text, a group of keys"),
    (MLP, dict(algo_server=("mpl", NET)), "server", "did you mean 'mlp'"),
    (MLP, dict(algo_server_optim=descent(-0.5)), "server_optim.lr", "must not be negative"),
    (MLP, dict(algo_server_optim=dict(name="sgd")), "server_optim.lr", "is missing"),
    (MLP, dict(algo_trains_on="some"), "trains_on", "arrivals, all"),
    (MLP, dict(algo_answers="later"), "answers", "apart, before, after"),
    (MLP, dict(algo_server_batch=4000), "server_batch", "at most .*, all private examples"),
    (MLP, dict(algo_server=("fedmd", DROPS)), "server", "must have dropout 0"),
    (MLP, dict(algo_server=("mlp", SINGLE)), "server", "float64 if and only if the edges have it"),
    (MLP, dict(algo_server_batch=6, mesh=4), "server_batch", "number of devices, 4"),
    (MLP, dict(algo_server_epochs=((5, 2), (3, 1))), "server_epochs", "ascending"),
    (MLP, dict(algo_order="random"), "order", "client, shuffled"),
    (MLP, dict(algo_arrivals=5), "arrivals", "0..4"),
    (MLP, dict(algo_present=0.0), "present", "above 0"),
    (MLP, dict(algo_temperature=0.0), "temperature", "above 0"),
    (MLP, dict(algo_edge_epochs=0), "edge_epochs", "at least 1"),
    (MLP, dict(algo_plateau=dict(factor=2.0, patience=1)), "plateau.factor", "between 0 and 1"),
  ],
)
def test_what_cannot_be_is_refused(clients, changes, key, right):
  with pytest.raises(ConfigError, match=right) as error:
    build(clients=clients, **changes)
  assert error.value.key == f"algo.{key}"
