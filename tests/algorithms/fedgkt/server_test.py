"""Servers on meshes of forced CPU devices: collecting rows, sending answers, one step."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import make_env
from jax.sharding import PartitionSpec as P

from kdjax.algorithms.fedgkt import server
from kdjax.core import clients, losses
from kdjax.core.env import sharded
from kdjax.core.random import EVERYONE, client_key
from kdjax.models.build import build_model
from kdjax.types import ClientState, Health, Rows

# Two replicas of three clients in two cohorts with interleaved ids.
COHORTS, SEEDS, N, S = ((1, 4), (0, 2, 3, 5)), (5, 6), 7, 8
on_meshes = pytest.mark.parametrize("mesh", [(1, 1), (2, 1), (2, 2), (1, 4)])


def make(mesh):
  return make_env(mesh, COHORTS, seeds=SEEDS, image=(1, 1, 3), classes=2, tx=optax.trace(0.9))


def rows(seed=0):
  """Distinct rows of each replica's own clients; the last two are padding."""
  rng = np.random.default_rng(seed)
  place = np.stack([rng.permutation(3 * N)[:S] for _ in SEEDS])
  owner = place // N + 3 * np.arange(2)[:, None]
  mask = np.tile(np.arange(S) < S - 2, (2, 1)).astype(np.float32)
  return Rows(owner.astype(np.int32), (place % N).astype(np.int32), mask)


def per_cohort(whole):
  return tuple(jax.tree.map(lambda x, c=c: x[list(c)], whole) for c in COHORTS)


def run(env, fn, *args, out):
  """`fn` of tables, split over clients, and of values on every device."""
  specs = (P("client"), *[P()] * (len(args) - 1))
  return jax.jit(sharded(env, fn, specs, out))(*args)


@on_meshes
def test_a_batch_is_collected_from_its_owners_and_split_over_all_devices(mesh):
  env, r = make(mesh), rows()
  whole = {
    "x": np.random.default_rng(1).normal(size=(6, N, 2, 3)).astype(np.float32),
    "y": np.arange(6 * N, dtype=np.int32).reshape(6, N),
  }
  fn = lambda tables, r: server.collect(env, tables, r)
  shares = run(env, fn, per_cohort(whole), r, out=P(None, ("data", "client")))
  expected = jax.tree.map(lambda x: x[r.owner, r.row], whole)
  chex.assert_trees_all_equal(shares, expected)
  chex.assert_trees_all_equal_dtypes(shares, expected)
  parts = lambda tables, r: (server.part(env, r.row), server.whole(server.part(env, r.row)))
  split, joined = run(env, parts, per_cohort(whole), r, out=(P(None, ("data", "client")), P()))
  np.testing.assert_array_equal(split, r.row)
  np.testing.assert_array_equal(joined, r.row)


@on_meshes
def test_answers_reach_their_owners_alone(mesh):
  env, r = make(mesh), rows()
  table = np.random.default_rng(2).normal(size=(6, N, 2)).astype(np.float32)
  values = np.random.default_rng(3).normal(size=(2, S, 2)).astype(np.float32)
  fn = lambda tables, r, v: server.deliver(env, tables, r, v)
  written, reached = run(env, fn, per_cohort(table), r, values, out=P("client"))
  expected = table.copy()
  live = r.mask > 0
  expected[r.owner[live], r.row[live]] = values[live]
  chex.assert_trees_all_equal(written, per_cohort(expected))
  known = np.isin(np.arange(6), r.owner[live])
  chex.assert_trees_all_equal(reached, per_cohort(known))


@on_meshes
def test_a_step_is_one_of_the_whole_batch_and_a_server_without_rows_rests(mesh):
  """Softmax regression by hand, with momentum; the second replica has nothing."""
  with jax.enable_x64(True):
    env, rng = make(mesh), np.random.default_rng(4)
    w, trace = rng.normal(size=(2, 2, 3, 2))
    x, y = rng.normal(size=(2, S, 1, 1, 3)), rng.integers(2, size=(2, S))
    mask = rows().mask
    passes = {"batch_stats": {"passes": np.zeros(2)}}
    health = Health(*(np.full(2, n, np.int32) for n in (-1, 0, 0)))
    before = ClientState({"w": w}, passes, optax.TraceState({"w": trace}), health)
    model, tx = env.cohorts[0].model, env.cohorts[0].tx

    def objective(apply, params, d):
      out, statistics = apply(params, d["x"], d["mask"])
      ce = losses.cross_entropy(out.logits[:, 0], d["y"])
      loss = clients.share(ce, d["mask"], d["total"])
      return loss, ({"loss": loss}, statistics, out.logits[:, 0])

    def step(_, before, d, lr):
      d = {k: server.part(env, v) for k, v in d.items()} | {"total": d["mask"].sum(1)}
      active = jnp.array([True, False])
      *ends, said = server.update(env, model, tx, before, objective, d, lr, active)
      return *ends, server.whole(said)

    d, lr = {"x": x, "y": y, "mask": mask}, np.array([0.1, 0.2])
    after, aux, said = run(env, step, per_cohort(np.zeros(6)), before, d, lr, out=P())
    chex.assert_trees_all_equal(*(jax.tree.map(lambda v: v[1], s) for s in (after, before)))
    inputs = x[0].reshape(S, 3)
    p = np.exp(inputs @ w[0]) / np.exp(inputs @ w[0]).sum(1, keepdims=True)
    np.testing.assert_allclose(said[0], inputs @ w[0], rtol=1e-12)
    weight = mask[0].astype(float) / mask[0].sum()
    momentum = inputs.T @ ((p - np.eye(2)[y[0]]) * weight[:, None]) + 0.9 * trace[0]
    np.testing.assert_allclose(after.opt_state.trace["w"][0], momentum, rtol=1e-12)
    np.testing.assert_allclose(after.params["w"][0], w[0] - 0.1 * momentum, rtol=1e-12)
    assert after.model_state["batch_stats"]["passes"][0] == 1
    loss = -(np.log(p[np.arange(S), y[0]]) * weight).sum()
    np.testing.assert_allclose(aux["loss"][0], loss, rtol=1e-12)


def test_servers_start_from_their_replicas_seeds():
  net = dict(hidden=(2,), activation="tanh", norm="none", dtype="float32", project=0)
  env, model = make((1, 1)), build_model("mlp", classes=2, heads=1, **net)
  fn = lambda _: server.init(env, model, env.cohorts[0].tx, (3,))
  state = run(env, fn, per_cohort(np.zeros(6)), out=P())
  for r, seed in enumerate(SEEDS):
    fresh = model.init(client_key(seed, "server", 0, EVERYONE), jnp.zeros((1, 3)), train=False)
    near = jax.tree.map(lambda x, r=r: x[r], state.params)
    chex.assert_trees_all_close(near, fresh["params"], rtol=1e-6)
