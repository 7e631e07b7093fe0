"""Real-time distillation: against NumPy, and what a client's sources may and may not change."""

import chex
import ensembles
import jax
import numpy as np
import pytest
import regression
from regression import gradient, softmax

from kdjax.core import copies
from kdjax.core.env import STATE, sharded
from kdjax.core.passes import eval_mode
from kdjax.training import schedule
from kdjax.types import ClientState, ConfigError

TWO = ((2, *ensembles.MLP), (2, *ensembles.WIDE))
EIGHT = (8, 8, 8)  # examples a client: one step is an epoch


@pytest.fixture(autouse=True)
def float64():
  with jax.enable_x64(True):
    yield


def graph(*edges):
  """(student, teacher) pairs."""
  return dict(kind="edges", every=0, island=2, degree=2, edges=edges, seed=0)


def config(rounds=2, **changes):
  """Softmax regressions, of which client 2 learns from 0 and 1."""
  return regression.config("kd", 3, rounds, **{"graph": graph((2, 0), (2, 1)), **changes})


@pytest.mark.parametrize("alpha, beta", [(0.5, 0.5), (0.0, 1.0), (1.0, 0.0)])
def test_softmax_regressions_follow_equation_5(alpha, beta):
  e = ensembles.build(config(algo_alpha=alpha, algo_beta=beta), data_=ensembles.data(3, EIGHT))
  first = e.init()
  w = [regression.weights(params) for params, _ in ensembles.by_client(e, first)]
  x, y = zip(*(regression.examples(e, p) for p in e.data.shards.private), strict=True)
  for _ in range(2):
    w = [w[k] - regression.LR * gradient(w[k], x[k], y[k]) for k in range(3)]
    told = np.mean([softmax(x[2] @ w[a]) for a in (0, 1)], axis=0)  # copies, fetched here
    change = [gradient(w[k], x[k], y[k]) for k in range(3)]
    change[2] = (alpha * change[2] + beta * gradient(w[2], x[2], told)) / 2
    w = [w[k] - regression.LR * change[k] for k in range(3)]
  last = ensembles.by_client(e, ensembles.train(e, first)[0])
  found = [regression.weights(params) for params, _ in last]
  chex.assert_trees_all_close(found, w, rtol=1e-10, atol=1e-12)


def test_divergence_is_kullback_leiblers_and_zero_for_equal_predictions():
  rng = np.random.default_rng(0)
  said, own = rng.normal(size=(3, 5, 4)), rng.normal(size=(5, 4))
  p, q = softmax(said[:2]), softmax(own)
  expected = (p * (np.log(p) - np.log(q))).sum(-1).mean(0)
  peer = np.array([4, 0, -1])
  chex.assert_trees_all_close(copies.divergence(said, peer, own), expected, rtol=1e-12)
  assert (expected > 0).all()
  same = np.stack([own, own + 7.0, said[2]])  # logits are the same but for a constant
  chex.assert_trees_all_close(copies.divergence(same, peer, own), np.zeros(5), atol=1e-12)
  chex.assert_trees_all_equal(copies.divergence(said, np.full(3, -1), own), np.zeros(5))


def test_sources_are_copies_of_the_teachers_whatever_their_architecture():
  """Client 0 listens to one of each architecture, 3 to nobody; two by two devices."""
  e = ensembles.build(
    ensembles.config("kd", TWO, graph=graph((0, 2), (0, 1), (1, 0), (2, 3)), norm="batch"),
    data_=ensembles.data(),
    mesh=4,
  )
  assert dict(e.env.mesh.shape) == {"client": 2, "data": 2}
  peer = copies.listed(e.env, 0)
  assert peer.tolist() == [[1, 2], [0, -1], [3, -1], [-1, -1]]
  state = e.init()
  images = np.random.default_rng(0).uniform(-1, 1, (5, *ensembles.IMAGE))

  def ask(state, images):
    found = copies.fetch(e.env, state.clients, peer)
    return e.env.gather(
      [jax.vmap(lambda f: copies.logits(e.env, f.flat, f.peer, images))(f) for f in found]
    )

  replicated = jax.sharding.PartitionSpec()
  said = jax.jit(sharded(e.env, ask, (STATE, replicated), replicated))(state, images)

  def own(k):
    params, statistics = ensembles.by_client(e, state)[k]
    model = e.env.cohorts[k // 2].model
    return eval_mode(model, ClientState(params, statistics, ()), images).logits[:, 0]

  nobody = np.zeros((5, ensembles.CLASSES))
  expected = [[own(1), own(2)], [own(0), nobody], [own(3), nobody], [nobody, nobody]]
  chex.assert_trees_all_close(said, np.array(expected), rtol=1e-10, atol=1e-12)


def test_sources_keep_to_their_replica_and_follow_a_changing_graph():
  turns = graph((1, 0), (1, 2)) | {"kind": "edges,none", "every": 3}
  c = config(replicas=2, graph=turns)
  e = ensembles.build(c, data_=ensembles.data(3, EIGHT, R=2))
  first = [[-1, -1], [0, 2], [-1, -1], [-1, -1], [3, 5], [-1, -1]]
  assert copies.listed(e.env, 2).tolist() == first
  assert (copies.listed(e.env, 3) == -1).all()
  # Rounds of one local batch, a fetch, one batch of distillation: fetches after batches 1 and 3.
  size = 8 * (36 + 1) * ensembles.CLASSES
  assert schedule.bytes_sent(e.algorithm, e.visits, 3) == {"checkpoints": 2 * 2 * size}
  assert schedule.bytes_sent(e.algorithm, e.visits, 6) == {"checkpoints": 2 * 2 * size}
  state, _ = ensembles.train(e)
  assert (np.asarray(state.local[0].peer) == -1).all()


def test_a_target_looks_at_copies_and_never_at_its_sources_data():
  """Poisoned data of a source after the fetch change the source, not what it taught (U8)."""
  source, shards = ensembles.data(3, EIGHT)
  pixels = source.train.array.copy()
  pixels[shards.private[0]] = 255 - pixels[shards.private[0]]
  train = ensembles.ExampleSet(
    source.train.labels, source.train.strata, ensembles.IMAGE, pixels, None
  )
  ends = []
  for given in (source, source._replace(train=train)):
    clean, e = (ensembles.build(config(rounds=1), data_=(s, shards)) for s in (source, given))
    fetched, _ = ensembles.train(clean, calls=2)
    ends.append(ensembles.by_client(e, ensembles.train(e, fetched)[0]))
  chex.assert_trees_all_equal(ends[0][1:], ends[1][1:])
  with pytest.raises(AssertionError):
    chex.assert_trees_all_close(ends[0][0], ends[1][0], rtol=1e-6)


@pytest.mark.parametrize(
  "key, value", [("alpha", -0.1), ("beta", -1.0), ("local_epochs", 0), ("distil_epochs", 0)]
)
def test_what_cannot_be_is_refused(key, value):
  with pytest.raises(ConfigError, match=f"algo.{key} = {value}"):
    ensembles.build(config(**{f"algo_{key}": value}), data_=ensembles.data(3, EIGHT))
