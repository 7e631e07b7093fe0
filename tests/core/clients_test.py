"""Clients on meshes of forced CPU devices: ids, keys, gather, fetch, shares and gradients."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import Linear, make_env
from jax.sharding import PartitionSpec as P

from kdjax.core import clients, gradients, graph, losses, mapping, passes, random
from kdjax.core.env import sharded
from kdjax.hardware import hlo
from kdjax.types import ClientState, Examples, Health

# Two cohorts with interleaved ids, and the meshes whose client axis divides both.
SMALL = ((1, 4), (0, 2, 3, 5))
LARGE = ((0, 3, 5, 6), (1, 2, 4, 7))
ENSEMBLES = [((1, 1), SMALL), ((2, 1), SMALL), ((2, 2), SMALL), ((4, 1), LARGE), ((4, 2), LARGE)]
on_ensembles = pytest.mark.parametrize("mesh, cohorts", ENSEMBLES)
CLIENTS = P("client")
on_data_shards = pytest.mark.parametrize("shards", [1, 2, 4])


def run(env, fn, *args, out=CLIENTS, specs=CLIENTS):
  """`fn` on the mesh; arguments and results are split over clients unless stated otherwise."""
  return jax.jit(sharded(env, fn, specs, out))(*args)


# Keys


@on_ensembles
def test_ids_and_rows_of_every_device(mesh, cohorts):
  env = make_env(mesh, cohorts)
  table = np.arange(env.clients) ** 2
  ids, rows = run(
    env,
    lambda: ([env.ids(g) for g in range(2)], [env.local_rows(g, table) for g in range(2)]),
    specs=(),
  )
  for g, cohort in enumerate(cohorts):
    np.testing.assert_array_equal(ids[g], cohort)
    np.testing.assert_array_equal(rows[g], np.array(cohort) ** 2)


@pytest.mark.parametrize("mesh", [(1, 1), (2, 2)])
def test_keys_are_named_by_seed_and_identity(mesh):
  """Two replicas of three clients; client 4 is client 1 of the second, called 0 here."""
  env = make_env(mesh, ((0, 4), (1, 2, 3, 5)), seeds=(5, 6), identity=(2, 0, 1))
  both = lambda: (
    [jax.random.key_data(env.keys(g, "init", 3)) for g in range(2)],
    [jax.random.key_data(env.common_keys(g, "init", 3)) for g in range(2)],
  )
  own, common = run(env, both, specs=())
  key = lambda *words: jax.random.key_data(random.client_key(*words))
  for g, cohort in enumerate(((0, 4), (1, 2, 3, 5))):
    for place, k in enumerate(cohort):
      seed, name = (5, 6)[k // 3], (2, 0, 1)[k % 3]
      np.testing.assert_array_equal(own[g][place], key(seed, "init", 3, name))
      np.testing.assert_array_equal(common[g][place], key(seed, "init", 3, random.EVERYONE))


@on_data_shards
def test_example_keys_follow_the_place_in_the_whole_batch(shards):
  env, key = make_env((1, shards)), jax.random.key(1)
  keys = lambda: jax.random.key_data(random.example_keys(key, 8 // shards))
  expected = [jax.random.key_data(jax.random.fold_in(key, i)) for i in range(8)]
  np.testing.assert_array_equal(run(env, keys, out=P("data"), specs=()), expected)


# Moving values between clients


def per_cohort(cohorts, whole):
  return tuple(whole[list(ids)] for ids in cohorts)


@on_ensembles
def test_gather_gives_client_order_on_every_device(mesh, cohorts):
  env = make_env(mesh, cohorts)
  whole = {"a": np.arange(env.clients * 3.0).reshape(-1, 3), "b": np.arange(env.clients)}
  xs = tuple({name: x[list(ids)] for name, x in whole.items()} for ids in cohorts)
  gathered = run(
    env,
    lambda *xs: jax.tree.map(lambda x: x[None], env.gather(xs)),
    *xs,
    out=P(("client", "data")),
  )
  devices = mesh[0] * mesh[1]
  chex.assert_trees_all_equal(
    gathered, jax.tree.map(lambda x: np.tile(x, (devices, *[1] * x.ndim)), whole)
  )


@on_ensembles
def test_fetch_is_indexing_and_zeros_for_nobody(mesh, cohorts):
  env = make_env(mesh, cohorts)
  rng = np.random.default_rng(0)
  values = rng.normal(size=(env.clients, 2, 3)).astype(np.float32)
  wanted = rng.integers(env.clients, size=env.clients).astype(np.int32)
  wanted[[1, 2]] = -1, 2  # nobody; client 2 fetches its own
  fetch = lambda a, b, u, v: env.fetch((a, b), (u, v), graph.complete(env.K))
  fetched = run(env, fetch, *per_cohort(cohorts, values), *per_cohort(cohorts, wanted))
  expected = np.where((wanted >= 0)[:, None, None], values[wanted], 0)
  chex.assert_trees_all_equal(fetched, per_cohort(cohorts, expected))


def test_fetch_of_whole_numbers_keeps_their_type():
  env = make_env((2, 1), SMALL)
  whole = np.arange(10, 16, dtype=np.int32)
  wanted = np.array([5, 4, 3, 2, 1, 0], np.int32)
  fetch = lambda a, b, u, v: env.fetch((a, b), (u, v), graph.complete(env.K))
  fetched = run(env, fetch, *per_cohort(SMALL, whole), *per_cohort(SMALL, wanted))
  chex.assert_trees_all_equal(fetched, per_cohort(SMALL, whole[wanted]))
  assert fetched[0].dtype == jnp.int32


# Who is fetched from whom, of 8 clients on 4 devices, two each, and how many devices it passes.
REACH = {
  "nobody": ([], (0, 0)),
  "a neighbour on the same device": ([(0, 1)], (0, 0)),
  "the next device, over the end of the ring": ([(7, 0), (1, 2)], (1, 0)),
  "the device before": ([(0, 7)], (0, 1)),
  "two on: half the ring": ([(0, 4)], (2, 0)),
  "three on is one back": ([(0, 6)], (0, 1)),
  "everyone": ([(i, j) for i in range(8) for j in range(8) if i != j], (2, 1)),
}


@pytest.mark.parametrize("edges, hops", REACH.values(), ids=REACH)
def test_values_pass_no_more_devices_than_edges_ask(edges, hops):
  cohorts = ((0, 1, 2, 3, 4, 5, 6, 7),)
  env = make_env((4, 1), cohorts)
  among = np.zeros((8, 8), bool)
  wanted = np.full((8, 8), -1, np.int32)  # [K, S], all that each has
  for student, teacher in edges:
    among[student, teacher], wanted[student, teacher] = True, teacher
  assert env.reach(among) == hops
  values = np.arange(8, dtype=np.float32) + 1
  fetch = lambda x, w: env.fetch((x,), (w,), among)
  (got,) = run(env, fetch, values, wanted, out=(P("client"),))
  np.testing.assert_array_equal(got, np.where(wanted < 0, 0, values[wanted]))
  lowered = jax.jit(sharded(env, fetch, P("client"), (P("client"),))).lower(values, wanted)
  program = hlo.parse(lowered.compile().as_text())
  turns = [n for one, _, n in program.runs() if one.op.startswith("collective-permute")]
  assert sum(turns) == sum(hops)


def test_reach_counts_devices_of_every_replica():
  env = make_env((2, 1), ((0, 1, 2, 3),), seeds=(0, 1))  # a replica a device
  assert env.reach(graph.complete(2)) == (0, 0)
  assert make_env((2, 1), ((0, 2, 1, 3),), seeds=(0, 1)).reach(graph.complete(2)) == (1, 0)


# Shares and gradients

MASK = np.array([1, 1, 0, 1, 0, 0, 1, 1], np.float32)  # on 4 shards: 2, 1, 0 and 2 examples


@on_data_shards
def test_shares_add_up_to_the_masked_mean(shards):
  env = make_env((1, shards))
  value = np.arange(8, dtype=np.float32) ** 2
  share = lambda v, m: clients.share(v, m, jax.lax.psum(m.sum(), "data"))[None]
  for mask, mean in [
    (MASK, (0 + 1 + 9 + 36 + 49) / 5),
    (np.ones(8, np.float32), 140 / 8),
    (np.zeros(8, np.float32), 0.0),
    (np.eye(8, dtype=np.float32)[7], 49.0),
  ]:
    shares = run(env, share, value, mask, out=P("data"), specs=P("data"))
    assert shares.shape == (shards,)
    np.testing.assert_allclose(shares.sum(), mean, rtol=1e-6)


@on_data_shards
def test_the_gradient_of_a_share_summed_once_is_the_gradient(shards):
  """The ratio is 1, neither 1 / shards nor shards, which another `check_vma` would make it."""
  env = make_env((1, shards))
  rng = np.random.default_rng(0)
  x, w = rng.normal(size=(8, 3)).astype(np.float32), np.array([1.0, -2.0, 0.5], np.float32)

  def gradient(w, x, mask):
    total = jax.lax.psum(mask.sum(), "data")
    loss = lambda w: (clients.share((x @ w) ** 2, mask, total), ())
    return jax.lax.psum(gradients.of(loss, w)[0], "data")

  g = run(env, gradient, w, x, MASK, out=P(), specs=(P(), P("data"), P("data")))
  expected = 2 * ((x @ w) * MASK) @ x / MASK.sum()
  np.testing.assert_allclose(g / expected, np.ones(3), rtol=1e-5)


def test_apply_update_subtracts_the_scaled_update():
  tx = optax.trace(0.5)
  params, grads = {"w": jnp.array([1.0, 2.0])}, {"w": jnp.array([1.0, -1.0])}
  state = tx.init(params)
  params, state = gradients.apply_update(tx, 0.1, grads, params, state)
  np.testing.assert_allclose(params["w"], [0.9, 2.1])
  params, state = gradients.apply_update(tx, 0.2, grads, params, state)
  np.testing.assert_allclose(params["w"], [0.6, 2.4], rtol=1e-6)  # 1.5 times the gradient


def softmax_regression(w, x, label, mask):
  """NumPy reference: (gradient of the masked mean cross entropy, its value)."""
  p = np.exp(x @ w)
  p /= p.sum(1, keepdims=True)
  weight = mask.astype(np.float64) / mask.sum()
  gradient = x.T @ ((p - np.eye(w.shape[1])[label]) * weight[:, None])
  return gradient, -(np.log(p[np.arange(len(x)), label]) * weight).sum()


def regression(local_map, mesh, cohorts, active):
  """One `update` of every client; (before, after, aux, expected), in float64."""
  env = make_env(
    mesh, cohorts, local_map=local_map, tx=optax.trace(0.9), image=(1, 1, 3), classes=2
  )
  rng = np.random.default_rng(0)
  n, B = env.clients, 8
  w, x = rng.normal(size=(n, 3, 2)), rng.normal(size=(n, B, 1, 1, 3))
  label, trace = rng.integers(2, size=(n, B)), rng.normal(size=(n, 3, 2))
  mask = np.tile(MASK, (n, 1))
  mask[2] = 1 - MASK
  state = lambda ids: ClientState(
    {"w": w[ids]},
    {"batch_stats": {"passes": np.full(len(ids), 3.0)}},
    optax.TraceState({"w": trace[ids]}),
    Health(*(np.full(len(ids), n, np.int32) for n in (-1, 0, 0))),
  )
  half = lambda ids: Examples(
    x[ids],
    label[ids],
    label[ids],
    label[ids],
    mask[ids],
    jax.random.split(jax.random.key(0), len(ids)),
    mask[ids].sum(1),
  )

  def objective(apply, params, half):
    out, statistics = apply(params, half)
    each = losses.cross_entropy(out.logits[:, 0], half.label)
    loss = clients.share(each, half.mask, half.total)
    return loss, ({"loss": loss}, statistics)

  def step(states, halves, active):
    return clients.update(env, states, objective, halves, 0.1, active)

  before, halves = tuple(state(list(ids)) for ids in cohorts), tuple(half(list(c)) for c in cohorts)
  batch = Examples(*[P("client", "data")] * 5, P("client"), P("client"))
  specs = (P("client"), (batch, batch), P("client"))
  chosen = None if active is None else tuple(active[list(ids)] for ids in cohorts)
  after, aux = run(env, step, before, halves, chosen, specs=specs)
  reference = [softmax_regression(w[k], x[k].reshape(B, 3), label[k], mask[k]) for k in range(n)]
  expected = {
    "trace": np.stack([g for g, _ in reference]) + 0.9 * trace,
    "loss": np.array([loss for _, loss in reference]),
  }
  expected["w"] = w - 0.1 * expected["trace"]
  return before, after, aux, expected


@pytest.mark.parametrize("local_map", mapping.MAPS)
@pytest.mark.parametrize("mesh, cohorts", [((1, 1), SMALL), ((2, 2), SMALL), ((1, 4), SMALL)])
def test_update_is_a_step_along_the_gradient_on_every_mesh(local_map, mesh, cohorts):
  with jax.enable_x64(True):
    _, after, aux, expected = regression(local_map, mesh, cohorts, active=None)
    for g, ids in enumerate(map(list, cohorts)):
      np.testing.assert_allclose(after[g].params["w"], expected["w"][ids], rtol=1e-12)
      np.testing.assert_allclose(after[g].opt_state.trace["w"], expected["trace"][ids], rtol=1e-12)
      np.testing.assert_allclose(aux[g]["loss"], expected["loss"][ids], rtol=1e-12)
      chex.assert_trees_all_equal(
        after[g].model_state["batch_stats"]["passes"], np.full(len(ids), 4.0)
      )


def test_a_client_that_is_not_active_rests_entirely():
  active = np.array([True, False, True, False, True, True])
  with jax.enable_x64(True):
    before, after, _, expected = regression("vmap", (2, 2), SMALL, active)
    for g, ids in enumerate(map(list, SMALL)):
      for place, k in enumerate(ids):
        one = lambda tree, place=place: jax.tree.map(lambda x: np.asarray(x[place]), tree)
        if active[k]:
          np.testing.assert_allclose(one(after[g]).params["w"], expected["w"][k], rtol=1e-12)
          assert one(after[g]).model_state["batch_stats"]["passes"] == 4
        else:
          chex.assert_trees_all_equal(one(after[g]), one(before[g]))


def test_run_and_train_mode_pass_the_statistics():
  model, images = Linear(2), jnp.array([[[[1.0, 2.0, 3.0]]]])
  w = jnp.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
  client = ClientState({"w": w}, {"batch_stats": {"passes": jnp.array(3.0)}}, ())
  np.testing.assert_array_equal(passes.eval_mode(model, client, images).logits, [[[4.0, 5.0]]])
  half = Examples(images, None, None, None, jnp.ones(1), jax.random.key(0))
  out, state = passes.train_mode(model, client.model_state, client.params, half)
  np.testing.assert_array_equal(out.logits, [[[4.0, 5.0]]])
  assert state["batch_stats"]["passes"] == 4
