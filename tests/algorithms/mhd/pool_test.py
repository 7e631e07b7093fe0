"""Pools of snapshots, their refresh in the long run, and what clients tell each other."""

import chex
import ensembles
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import make_env, near, usually

from kdjax.algorithms.mhd import Hyper, messages
from kdjax.algorithms.mhd import pool as pools
from kdjax.core import costs, losses, snapshots
from kdjax.training.stepper import Dispatch
from kdjax.types import Pos

TREE = {
  "a": jnp.array([[1.0, 2.0], [3.0, 4.0]]),
  "b": (jnp.array(5.0), jnp.array([6.0, 7.0], jnp.bfloat16)),
}


def test_flatten_ravels_and_pads():
  np.testing.assert_array_equal(snapshots.flatten(TREE, 9), [1, 2, 3, 4, 5, 6, 7, 0, 0])


@pytest.mark.parametrize("length", [7, 11])
def test_unflatten_restores_values_shapes_and_dtypes(length):
  template = jax.eval_shape(lambda: TREE)
  chex.assert_trees_all_equal(snapshots.unflatten(snapshots.flatten(TREE, length), template), TREE)
  restored = snapshots.unflatten(snapshots.flatten(TREE, length), template)
  chex.assert_trees_all_equal_shapes_and_dtypes(restored, TREE)


def test_flatten_keeps_float64():
  with jax.enable_x64(True):
    tree = {"w": jnp.array([1 / 3, 2 / 3], jnp.float64)}
    restored = snapshots.unflatten(snapshots.flatten(tree, 5), tree)
    chex.assert_trees_all_equal_shapes_and_dtypes(restored, tree)
    chex.assert_trees_all_equal(restored, tree)


# Draws


def draw(peer, D, n):
  keys = jax.random.split(jax.random.key(0), n)
  slot, valid = jax.vmap(lambda key: pools.draw(key, jnp.array(peer), D))(keys)
  return np.asarray(slot), np.asarray(valid)


def test_draw_is_uniform_without_replacement_over_filled_slots():
  n, peer = 6000, [3, -1, 5, 5, -1, 2]
  slot, valid = draw(peer, 2, n)
  assert valid.all()
  assert (slot[:, 0] != slot[:, 1]).all()
  filled = [0, 2, 3, 5]
  assert set(slot.ravel().tolist()) == set(filled)
  for a in filled:
    for b in filled:
      if a != b:
        seen = ((slot[:, 0] == a) & (slot[:, 1] == b)).mean()
        assert abs(seen - 1 / 12) < near(1 / 12, n)


def test_draw_flags_what_is_missing():
  slot, valid = draw([3, -1, 5, -1], 3, 50)
  np.testing.assert_array_equal(valid, np.tile([True, True, False], (50, 1)))
  np.testing.assert_array_equal(np.sort(slot[:, :2]), np.tile([0, 2], (50, 1)))
  assert not draw([-1, -1], 2, 3)[1].any()


def test_draw_of_all_slots_takes_each_once():
  slot, valid = draw([1, 1, 2], 3, 20)
  assert valid.all()
  np.testing.assert_array_equal(np.sort(slot), np.tile([0, 1, 2], (20, 1)))


# Replacement


def test_replace_changes_one_slot_and_only_of_clients_with_a_peer():
  old = pools.Pool(
    flat=jnp.arange(12.0).reshape(2, 3, 2),
    peer=jnp.array([[1, 1, -1], [0, 0, 0]]),
    born=jnp.array([[0, 10, 0], [0, 0, 10]]),
  )
  snapshot = jnp.array([[100.0, 101.0], [200.0, 201.0]])
  new = pools.replace(old, jnp.array([2, 1]), snapshot, jnp.array([4, -1]), jnp.array(20))
  expected = pools.Pool(
    flat=old.flat.at[0, 2].set(jnp.array([100.0, 101.0])),
    peer=old.peer.at[0, 2].set(4),
    born=old.born.at[0, 2].set(20),
  )
  chex.assert_trees_all_equal(new, expected)
  chex.assert_trees_all_equal_shapes_and_dtypes(new, old)


def test_pool_in_the_long_run():
  """U13: ages are geometric; a client holds snapshots of its out-neighbours, never of itself."""
  K, P, every, turns = 4, 3, 5, 3000
  teachers = [{1, 2, 3}, {0, 2}, {3}, set()]
  adjacency = np.array([[j in t for j in range(K)] for t in teachers])
  env = make_env(cohorts=(range(K),), adjacency=adjacency)
  hyper = Hyper(
    aux_heads=1,
    nu_emb=0.0,
    pool_size=P,
    refresh_every=every,
    pool_start="first",
    speak_in="mixed",
  )
  ex = pools.exchange(env, lambda out: out, hyper)
  first = np.array([[1, 2, 3], [0, 2, 0], [3, 3, 3], [-1, -1, -1]], np.int32)
  flat = np.stack([first, np.zeros_like(first)], axis=-1).astype(np.float32)
  replace = jax.jit(pools.replace)
  pool, ages, held = pools.Pool(flat, first, np.zeros_like(first)), [], []
  for round in range(turns):
    peer, slot, born = ex.refresh.args(Pos(round, round, 0, round, 1, turns, round))
    assert born == (round + 1) * every  # training batches that the peers have taken
    snapshot = np.stack([peer, np.full(K, born)], axis=-1).astype(np.float32)  # who and when
    pool = replace(pool, slot, snapshot, peer, born)
    if round % (4 * P) == 4 * P - 1:  # far enough apart to be independent
      np.testing.assert_array_equal(pool.flat, np.stack([pool.peer, pool.born], axis=-1))
      ages.append((born - np.asarray(pool.born)[:3]) // every)
      held.append(np.asarray(pool.peer))
  held = np.stack(held)
  for i, allowed in enumerate(teachers):
    assert set(held[:, i].ravel().tolist()) == (allowed or {-1})
  ages = np.stack(ages[5:])  # the first pools were all of age 0
  np.testing.assert_array_equal((ages == 0).sum(-1), np.ones(ages.shape[:2]))
  for age in range(1, 6):
    p = (1 - 1 / P) ** age  # to have survived so many refreshes
    assert abs((ages >= age).mean() - p) < near(p, ages.size)


# Starts


@pytest.mark.parametrize("start, sent", [("empty", 0), ("first", 4 * 3)])
def test_what_slots_hold_before_a_refresh(start, sent):
  """Four clients with five slots: nothing, or the three others' first weights, fetched once."""
  e = ensembles.build(ensembles.config(dtype="float32", algo_pool_size=5, algo_pool_start=start))
  state = e.init()
  (pool,), size = state.local, int(snapshots.nbytes(e.env)[0])
  assert e.algorithm.bytes_at_start() == {"checkpoints": sent * size}
  if start == "empty":
    assert (pool.peer == -1).all() and not pool.flat.any()
  else:
    np.testing.assert_array_equal(pool.peer[1], [0, 2, 3, 0, 2])
    np.testing.assert_array_equal(pool.flat[1], snapshots.pack(e.env, *state.clients)[pool.peer[1]])


@pytest.mark.parametrize("method", usually({"mhd pool"}, ["mhd pool", "mhd published"]))
def test_nobody_teaches_before_the_first_refresh(method, weights_of_a_run):
  """Six batches, a refresh after the fourth: until then `separate`, bit for bit, and no longer."""
  small = dict(norm="batch", dtype="float32", steps=6)
  late = dict(algo_pool_start="empty", algo_refresh_every=4)
  e = ensembles.build(ensembles.config(method, **small, **late))
  alone = ensembles.build(ensembles.config("separate", **small))

  def weights(e, calls):
    params = [p for p, _ in ensembles.by_client(e, ensembles.train(e, calls=calls)[0])]
    return [p | {"heads": p["heads"]["main"]} for p in params]

  chex.assert_trees_all_equal(weights(e, 4), weights(alone, 4))  # then comes the refresh
  taught, untaught = weights(e, 6), weights(alone, 5)
  first = lambda ps: np.stack([p["Dense_0"]["kernel"] for p in ps])
  assert (abs(first(taught) - first(untaught)).max((1, 2)) > 1e-4).all()


# Modes


def moments(x, running, batch):
  """The mean and variance that a layer of BatchNorm normalises with."""
  return (x.mean(0), x.var(0)) if batch else (running["mean"], running["var"])


def network(client, x, batch):
  """Dense, BatchNorm, tanh, linear heads in NumPy: (embedding [U, F], logits [U, H, C])."""
  params, statistics = client
  x, bn = x @ params["Dense_0"]["kernel"], params["BatchNorm_0"]
  mean, var = moments(x, statistics["batch_stats"]["BatchNorm_0"], batch)
  xi = np.tanh((x - mean) / np.sqrt(var + 1e-5) * bn["scale"] + bn["bias"])
  heads = [params["heads"][h] for h in ("main", "aux1", "aux2")]
  return xi, np.stack([xi @ h["kernel"] + h["bias"] for h in heads], 1)


@pytest.mark.parametrize("speak_in", ["evaluation", "training", "mixed"])
def test_the_modes_in_which_candidates_speak(speak_in):
  """The losses of Eqs. 2 to 5 in NumPy, after steps that have moved BatchNorm's statistics."""
  with jax.enable_x64(True):
    one = dict(algo_pool_size=1, algo_refresh_every=3, algo_speak_in=speak_in)
    e = ensembles.build(ensembles.config(norm="batch", **one))
    state, stepper = ensembles.train(e, calls=4)  # three batches and the refresh
    before, clients = jax.device_get(state), ensembles.by_client(e, state)
    dispatch = Dispatch(e.visits[2], 0, 1)
    batch, *_ = stepper.inputs(dispatch)
    (found,) = jax.device_get(stepper.run(state, dispatch)[1])
  images = e.data.source.train.array.reshape(-1, 36) / 127.5 - 1
  unit = lambda xi: xi / np.linalg.norm(xi, axis=-1, keepdims=True)
  softmax = lambda z: np.exp(z) / np.exp(z).sum(-1, keepdims=True)
  for i, client in enumerate(clients):
    x = images[batch.public[0].index[0, i]]
    teacher = clients[int(before.local[0].peer[i, 0])]  # nobody has moved since the refresh
    xi, learns = network(client, x, batch=True)
    theirs, says = network(teacher, x, batch=speak_in == "training")
    own = network(client, x, batch=speak_in != "evaluation")[1]
    distance = ((unit(xi) - unit(theirs)) ** 2).sum(-1).mean()
    np.testing.assert_allclose(found["embedding"][i], distance, rtol=1e-6)
    for k in (1, 2):
      candidates = softmax(np.stack([says[:, k - 1], own[:, k - 1]]))
      target = candidates[candidates.max(-1).argmax(0), np.arange(len(x))]
      loss = -(target * np.log(softmax(learns[:, k]))).sum(-1).mean()
      np.testing.assert_allclose(found[f"aux{k}"][i], loss, rtol=1e-6)


# Messages


def test_top_k_message_by_hand():
  p = jnp.array([[0.1, 0.5, 0.0, 0.4], [0.25, 0.05, 0.6, 0.1]])
  message = messages.encode(p, 2)
  np.testing.assert_array_equal(message.index, [[1, 3], [2, 0]])
  assert message.index.dtype == jnp.int32
  np.testing.assert_allclose(message.p, [[0.5, 0.4], [0.6, 0.25]], rtol=1e-6)
  expected = [[0, 0.5, 0, 0.4], [0.25, 0, 0.6, 0]]
  np.testing.assert_allclose(messages.decode(message, 4), expected, rtol=1e-6)
  # .5 and .4 of .9; .6 and .25 of .85
  learnt = [[0, 5 / 9, 0, 4 / 9], [5 / 17, 0, 12 / 17, 0]]
  np.testing.assert_allclose(losses.renormalise(messages.decode(message, 4)), learnt, rtol=1e-6)


@pytest.mark.parametrize("top_k", [0, 5])
def test_decode_is_the_inverse_where_all_classes_are_sent(top_k):
  p = jax.nn.softmax(jax.random.normal(jax.random.key(0), (2, 3, 4, 5)))
  decoded = messages.decode(messages.encode(p, top_k), 5)
  np.testing.assert_allclose(decoded, p, rtol=1e-6)


def test_nbytes_counts_shapes():
  """A batch of 512, 4 heads, 3 of 1000 classes: a float and an index each."""
  p = jax.ShapeDtypeStruct((512, 4, 1000), jnp.float32)
  top = jax.eval_shape(lambda p: messages.encode(p, 3), p)
  assert costs.nbytes(top) == 512 * 4 * 3 * (4 + 4)
  dense = jax.eval_shape(lambda p: messages.encode(p, 0), p)
  assert costs.nbytes(dense) == 512 * 4 * 1000 * 4
  assert costs.nbytes({"a": np.zeros(3, np.float64), "b": (np.zeros((2, 2), np.uint8),)}) == 28
