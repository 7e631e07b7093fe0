"""Identities of training: methods that coincide, influence that keeps to its pace, true pools."""

import chex
import ensembles
import jax
import numpy as np
import pytest
from flax import linen as nn
from helpers import usually

from kdjax.algorithms.mhd.pool import Pool
from kdjax.configs import common
from kdjax.models.heads import Heads
from kdjax.training.stepper import Dispatch, Stepper
from kdjax.types import ModelOut, Shards

float64 = pytest.mark.usefixtures("x64")


@pytest.fixture
def x64():
  with jax.enable_x64(True):
    yield


class NoBackbone(nn.Module):
  """Linear heads on the pixels: nothing that heads share is trained."""

  classes: int
  heads: int
  norm: str
  dtype: str
  project: int

  @nn.compact
  def __call__(self, images, train, mask=None):
    heads = Heads(self.classes, self.heads, self.dtype, self.project, name="heads")
    return ModelOut(*heads(images.reshape(len(images), -1)), {})


def graph(kind, **changes):
  return dict(common.base().graph, kind=kind, **changes)


def walk(e, *, prepare=lambda state: state, phases=lambda phase: phase):
  """Runs an experiment call by call: yields (phase, state), first (None, state 0).

  `prepare` may rewrite the state before every call, `phases` may change a phase. A state's memory
  is used again by the next call.
  """
  stepper = Stepper(e)
  state = stepper.init()
  yield None, state
  for visit in e.visits:
    visit = visit._replace(phase=phases(visit.phase))
    for i in range(visit.calls):
      state, _ = stepper.run(prepare(state), Dispatch(visit, i, 1))
      yield visit.phase, state


def without_aux(tree):
  """A tree of parameters without its auxiliary heads."""
  if not isinstance(tree, dict):
    return tree
  return {k: without_aux(v) for k, v in tree.items() if not k.startswith("aux")}


def differ(a, b):
  """Whether any bit of two trees differs."""
  pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
  return not all(np.array_equal(x, y) for x, y in pairs)


def with_other_pixels(data, client):
  """The same data, but for one client's private images, which are negatives."""
  source, shards = data
  pixels = source.train.array.copy()
  pixels[shards.private[client]] = 255 - pixels[shards.private[client]]
  old = source.train
  train = ensembles.ExampleSet(old.labels, old.strata, ensembles.IMAGE, pixels, None)
  return source._replace(train=train), shards


# U1


@pytest.mark.parametrize("local_map", usually({"scan"}, ["vmap", "scan", "unroll"]))
def test_without_distillation_mhd_is_separate_training(local_map):
  """U1, on a cycle, with pools, BatchNorm and unused auxiliary heads; in float32."""
  small = dict(norm="batch", dtype="float32", steps=6)
  mhd = ensembles.config(
    "mhd pool", **small, graph=graph("cycle"), algo_nu_emb=0.0, algo_nu_aux=0.0
  )
  mhd = ensembles.build(mhd, local_map=local_map)
  separate = ensembles.build(ensembles.config("separate", **small), local_map=local_map)
  with_heads = ensembles.by_client(mhd, ensembles.train(mhd)[0])
  with_heads = [(without_aux(params), statistics) for params, statistics in with_heads]
  expected = ensembles.by_client(separate, ensembles.train(separate)[0])
  if local_map == "vmap":
    chex.assert_trees_all_equal(with_heads, expected)
  else:
    chex.assert_trees_all_close(with_heads, expected, rtol=1e-6, atol=1e-7)


def statistics(e):
  """Every client's BatchNorm statistics after the first step."""
  return [s["batch_stats"]["BatchNorm_0"] for _, s in ensembles.by_client(e, ensembles.train(e)[0])]


def one_step(method, **changes):
  small = dict(norm="batch", dtype="float32", steps=1)
  return ensembles.build(ensembles.config(method, **small, **changes))


def test_public_batches_leave_running_statistics_alone():
  """After one step they depend on the first weights only, as in separate training."""
  alone, taught = statistics(one_step("separate")), statistics(one_step("mhd pool"))
  chex.assert_trees_all_close(taught, alone, rtol=1e-6)


def test_public_statistics_move_after_private_ones():
  """By hand: a tenth towards the private batch's moments, then a tenth towards the public one's."""
  e = one_step("mhd pool", algo_public_statistics=True)
  first = [params for params, _ in ensembles.by_client(e, e.init())]
  batch, *_ = Stepper(e).inputs(Dispatch(e.visits[0], 0, 1))
  pixels = e.data.source.train.array.reshape(-1, 36) / 127.5 - 1
  for k, (params, said) in enumerate(zip(first, statistics(e), strict=True)):
    mean, var = np.zeros(8), np.ones(8)
    for (half,) in (batch.private, batch.public):
      x = pixels[half.index[0, k]] @ params["Dense_0"]["kernel"]
      mean, var = 0.9 * mean + 0.1 * x.mean(0), 0.9 * var + 0.1 * x.var(0)
    chex.assert_trees_all_close(said, {"mean": mean, "var": var}, rtol=1e-4, atol=1e-6)


# U4


def fresh_pools(e):
  """state -> state in which every pool holds the current weights of everyone else."""

  def fill(state):
    clients = ensembles.by_client(e, state)
    said = np.stack([np.concatenate([x.ravel() for x in jax.tree.leaves(c)]) for c in clients])
    K = len(clients)
    peer = np.array([[j for j in range(K) if j != i] for i in range(K)], np.int32)
    pools = Pool(said[peer], peer, np.full_like(peer, int(state.calls)))
    place = jax.tree.map(lambda x: x.sharding, state.local[0])
    return state._replace(local=(jax.device_put(pools, place),))

  return fill


@float64
@pytest.mark.parametrize("norm", usually({"batch"}, ["none", "batch"]))
def test_pools_of_everyones_current_weights_are_the_fresh_exchange(norm):
  """U4, on one common public batch."""
  size = dict(norm=norm, steps=5, algo_teachers=3)
  fresh = ensembles.build(ensembles.config("mhd two passes", **size))
  pool = ensembles.config("mhd pool", **size, algo_pool_size=3, algo_refresh_every=5)
  pool = ensembles.build(pool)
  expected = ensembles.by_client(fresh, ensembles.train(fresh)[0])

  def common_batch(phase):
    return phase._replace(feed=phase.feed and phase.feed._replace(common=True))

  *_, (phase, state) = walk(pool, prepare=fresh_pools(pool), phases=common_batch)
  assert phase.name == "refresh" and int(state.calls) == 5 + 1
  chex.assert_trees_all_close(ensembles.by_client(pool, state), expected, rtol=1e-10, atol=1e-13)


# U11

CYCLE = dict(graph=graph("cycle"), algo_teachers=1, algo_pool_size=1, algo_refresh_every=2)


def test_influence_travels_one_client_a_refresh():
  """U11: with one slot, what client 3 is given reaches distance q in the batch after refresh q."""

  def trajectories(data):
    e = ensembles.build(ensembles.config("mhd pool", dtype="float32", **CYCLE), data_=data)
    states = (state for phase, state in walk(e) if phase and phase.feed)
    return [jax.tree.map(np.copy, ensembles.by_client(e, state)) for state in states]

  data = ensembles.data()
  before, after = trajectories(data), trajectories(with_other_pixels(data, client=3))
  for i in range(4):
    q, every = 3 - i, 2  # client i learns from client i + 1
    changed = [differ(a[i], b[i]) for a, b in zip(before, after, strict=True)]
    assert changed == [batch >= q * every for batch in range(8)]


def test_information_of_distance_q_reaches_heads_from_q_on():
  """U11: without a common backbone a head hears only the heads below it, of one client further."""
  clients = ((4, f"{__name__}:NoBackbone", {}),)
  heads = ("main", "aux1", "aux2", "aux3")

  def trained(data):
    optim = common.sgd(lr=0.1, clip=0.0)  # clipping ties a client's heads together
    changes = dict(algo_aux_heads=3, algo_nu_emb=0.0, optim=optim, dtype="float32", **CYCLE)
    e = ensembles.build(ensembles.config("mhd pool", clients, steps=12, **changes), data_=data)
    return [params["heads"] for params, _ in ensembles.by_client(e, ensembles.train(e)[0])]

  data = ensembles.data()
  before, after = trained(data), trained(with_other_pixels(data, client=3))
  for i in range(4):
    q = 3 - i
    changed = [differ(before[i][head], after[i][head]) for head in heads]
    assert changed == [k >= q for k in range(4)]


# U12


def one_client(data):
  """The same private examples, all with one client."""
  source, shards = data
  private = np.concatenate(shards.private)
  return source, Shards((private,), shards.public, ((),), shards.label_counts.sum(0, keepdims=True))


@float64
def test_fedavg_of_single_full_batches_is_centralised_gradient_descent():
  """U12: four clients of 8 examples, one step a round, no momentum, no clipping."""
  optim = common.sgd(lr=0.5, clip=0.0) | dict(momentum=0.0)
  data = ensembles.data(sizes=(8, 8, 8, 8))
  many = ensembles.config("fedavg", batch=8, optim=optim, algo_local_steps=1)
  one = ensembles.config("separate", ((1, *ensembles.MLP),), batch=32, optim=optim)
  many, one = ensembles.build(many, data_=data), ensembles.build(one, data_=one_client(data))
  expected = ensembles.by_client(one, ensembles.train(one)[0])
  averaged = ensembles.by_client(many, ensembles.train(many)[0])
  chex.assert_trees_all_close(averaged, expected * 4, rtol=1e-10, atol=1e-13)


def test_fedavg_of_one_client_is_separate_training(weights_of_a_run):
  """U12, bit for bit, with momentum and BatchNorm."""
  small = dict(norm="batch", dtype="float32")
  data, clients = ensembles.data(1), ((1, *ensembles.MLP),)
  trained = []
  for method in ("fedavg", "separate"):
    e = ensembles.build(ensembles.config(method, clients, **small), data_=data)
    trained.append(ensembles.by_client(e, ensembles.train(e)[0]))
  chex.assert_trees_all_equal(*trained)


# Pools


def test_pools_hold_teachers_as_they_were():
  """Two architectures, two devices: `peer` and `born` say whose snapshot of when a slot holds."""
  teachers = ({1, 2, 3}, {3}, {0, 1}, set())
  edges = tuple((i, j) for i, js in enumerate(teachers) for j in js)
  clients = ((2, *ensembles.MLP), (2, *ensembles.WIDE))
  small = dict(norm="batch", dtype="float32", graph=graph("edges", edges=edges))
  e = ensembles.build(ensembles.config("mhd pool", clients, **small), mesh=2)
  assert e.env.mesh.shape["client"] == 2

  def snapshots(state):
    vectors = []
    for client in ensembles.by_client(e, state):
      vectors.append(np.concatenate([x.ravel() for x in jax.tree.leaves(client)]))
    longest = max(map(len, vectors))
    return [np.pad(v, (0, longest - len(v))) for v in vectors]

  past, now = {}, 0  # training batches -> everyone's snapshots
  for phase, state in walk(e):
    if phase and phase.feed:
      now += 1
      continue
    past[now] = snapshots(state)
    pools = jax.device_get(state.local)
    for i, allowed in enumerate(teachers):
      flat, peer, born = (x[i % 2] for x in pools[i // 2])
      assert set(peer.tolist()) <= (allowed or {-1})
      for x, j, t in zip(flat, peer, born, strict=True):
        expected = past[t][j] if j >= 0 else np.zeros_like(x)
        # Bit for bit, but for the start: there one program draws the weights and their snapshots,
        # and XLA (jax 0.12) may compute a weight twice, rounded differently in the last bit.
        np.testing.assert_allclose(x, expected, rtol=0 if t else 2.5e-7)
      if now:
        assert (born == now).sum() == (1 if allowed else 0)  # one slot a refresh
  assert sorted(past) == [0, 2, 4, 6, 8]  # a refresh every 2 batches
