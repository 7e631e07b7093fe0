"""Everyone's predictions on one common public batch: the fresh and the published exchange."""

import chex
import ensembles
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import usually
from jax.sharding import PartitionSpec as P

from kdjax import plan
from kdjax.algorithms.mhd import Hyper, broadcast
from kdjax.algorithms.mhd import method as mhd
from kdjax.core.passes import eval_mode, train_mode
from kdjax.training import schedule
from kdjax.types import Batch, Examples, Now

float64 = pytest.mark.usefixtures("x64")
U = 8


@pytest.fixture
def x64():
  with jax.enable_x64(True):
    yield


def trained(method, **changes):
  e = ensembles.build(ensembles.config(method, steps=6, **changes))
  return ensembles.by_client(e, ensembles.train(e)[0])


def public_batch():
  """One public batch, the same for four clients: Examples with leaves [4, U, ...]."""
  images = np.random.default_rng(0).normal(size=(U, *ensembles.IMAGE))
  half = Examples(images, *[np.zeros(U, np.int32)] * 3, np.ones(U), jax.random.key(0))
  return jax.tree.map(lambda x: jnp.stack([x] * 4), half)


def probabilities(out):
  return jax.nn.softmax(out.logits[:, :2])


def whole(e, fn):
  """`fn` inside the mesh of an experiment on one device."""
  return jax.jit(jax.shard_map(fn, mesh=e.env.mesh, in_specs=P(), out_specs=P(), check_vma=False))


@float64
@pytest.mark.parametrize("speak_in", ["training", "evaluation"])
@pytest.mark.parametrize("local_map", usually({"scan"}, ["vmap", "scan", "unroll"]))
def test_a_student_hears_each_teachers_training_pass_or_evaluation(speak_in, local_map):
  e = ensembles.build(ensembles.config("mhd fresh", norm="batch"), local_map=local_map)
  model, state, half = e.env.cohorts[0].model, e.init(), public_batch()
  predict_fn = lambda out: (probabilities(out), out.embedding)
  hyper = Hyper(
    exchange="fresh",
    aux_heads=2,
    nu_emb=0.5,
    teachers=3,
    pool_size=0,
    refresh_every=0,
    pool_start="first",
    speak_in=speak_in,
  )
  ex = broadcast.fresh(e.env, predict_fn, hyper, one_pass=speak_in == "training")
  now = Now(0, 0, 0, 0, 0.1, ~jnp.eye(4, dtype=bool))

  def first_student(clients):
    (teachers,) = ex.prepare(state._replace(clients=clients), Batch(None, (half,)), now)
    own = jax.tree.map(lambda x: x[0], teachers._replace(student=None))
    return ex.teacher_predictions(own, None)

  def alone(client):
    if speak_in == "training":
      own = jax.tree.map(lambda x: x[0], half)
      return probabilities(train_mode(model, client.model_state, client.params, own)[0])
    return probabilities(eval_mode(model, client, half.image[0]))

  p, _, valid = whole(e, first_student)(state.clients)
  teachers = [jax.tree.map(lambda x, k=k: x[k], state.clients[0]) for k in (1, 2, 3)]
  expected = sorted((whole(e, alone)(t) for t in teachers), key=lambda p: p[0, 0, 0])
  assert valid.all()
  found = sorted(p, key=lambda p: p[0, 0, 0])
  np.testing.assert_allclose(found, expected, rtol=1e-9)


@float64
def test_without_batch_statistics_one_pass_finds_what_two_find(monkeypatch):
  one = trained("mhd two passes", norm="layer")
  monkeypatch.setattr(mhd, "speaks_as_it_learns", lambda env: False)
  two = trained("mhd two passes", norm="layer")
  chex.assert_trees_all_close(one, two, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize(
  "model, norm, one",
  [
    (ensembles.MLP, "layer", True),
    (ensembles.MLP, "batch", False),
    (("fedmd", dict(filters=(4, 4), dropout=0.2)), "none", False),
    (("fedmd", dict(filters=(4, 4), dropout=0.0)), "none", True),
    (
      ("benchmarks.contestants.models:ConvNet", {}),
      "none",
      False,
    ),  # no field says that it has dropout
  ],
)
def test_one_pass_where_training_and_evaluation_are_the_same(model, norm, one):
  e = ensembles.build(ensembles.config("separate", ((4, *model),), norm=norm, dtype="float32"))
  assert mhd.speaks_as_it_learns(e.env) == one


@float64
@pytest.mark.parametrize("speak_in", usually({"evaluation"}, ["evaluation", "training", "mixed"]))
def test_a_past_of_one_that_is_always_renewed_is_the_fresh_exchange(speak_in):
  one = dict(norm="batch", algo_speak_in=speak_in)
  past = trained("mhd published", **one, algo_pool_size=1, algo_refresh_every=1)
  chex.assert_trees_all_close(past, trained("mhd fresh", **one), rtol=1e-10, atol=1e-13)


@float64
def test_nobody_speaks_with_an_empty_slot():
  """After the first refresh one of three slots is filled: it speaks as the only one would."""
  small = dict(algo_refresh_every=1, algo_pool_start="empty")
  states = []
  for size in (3, 1):
    e = ensembles.build(ensembles.config("mhd published", **small, algo_pool_size=size))
    states.append(ensembles.by_client(e, ensembles.train(e, calls=3)[0]))  # two batches
  chex.assert_trees_all_equal(*states)


def test_nothing_is_sent_before_anyone_has_a_past():
  small = dict(dtype="float32", algo_nu_emb=0.0, algo_refresh_every=3)
  sent = {}
  for start in ("empty", "first"):
    e = ensembles.build(ensembles.config("mhd published", **small, algo_pool_start=start))
    sent[start] = schedule.bytes_sent(e.algorithm, e.visits, e.visits[-1].start)["predictions"]
  assert 2 * sent["empty"] == sent["first"]  # of six batches three come before the refresh


@float64
def test_a_refresh_replaces_one_snapshot_of_each_client():
  e = ensembles.build(ensembles.config("mhd published", algo_pool_size=3, algo_refresh_every=2))
  before = jax.device_get(ensembles.train(e, calls=2)[0])  # two batches
  after = jax.device_get(ensembles.train(e, calls=3)[0])  # and the refresh
  leaf = lambda tree: np.asarray(jax.tree.leaves(tree)[0])
  first = leaf(e.init().clients[0].params)
  old, new, now = leaf(before.local[0]), leaf(after.local[0]), leaf(after.clients[0].params)
  for k in range(4):
    np.testing.assert_array_equal(old[k], np.stack([first[k]] * 3))
    changed = [p for p in range(3) if not np.array_equal(new[k, p], old[k, p])]
    assert len(changed) == 1
    np.testing.assert_array_equal(new[k, changed[0]], now[k])


def test_only_predictions_are_sent():
  e = ensembles.build(ensembles.config("mhd published", dtype="float32", algo_nu_emb=0.0))
  sent = schedule.bytes_sent(e.algorithm, e.visits, e.visits[-1].start)
  m, C, D = 2, ensembles.CLASSES, 2
  assert sent == {"predictions": 8 * 4 * D * U * m * C * 4}  # eight batches, four students


def flops(method, **changes):
  """Of one training step on batches that make the optimiser's share small."""
  c = ensembles.config(method, ((4, *ensembles.CNN),), dtype="float32", **changes)
  c.mesh.map, c.mesh.conv, c.mesh.steps_per_dispatch = "unroll", "direct", 1
  c.batch = c.public_batch = 64
  e = ensembles.build(c, data_=ensembles.data(sizes=(64,) * 4, public=64))
  visit = plan.first_visits(e)[0]
  assert visit.phase.name == "train"
  return plan.lower(e, visit).cost_analysis()["flops"]


@pytest.mark.thorough
def test_passes_of_a_step():
  """Forward and backward count 3; a private and a public pass, and what teachers need."""
  norm = dict(norm="batch")  # without it one pass is enough
  one, two = flops("mhd fresh", **norm), flops("mhd two passes", **norm)
  assert one / two == pytest.approx(6 / 7, rel=0.04)
  assert flops("mhd published", **norm) == pytest.approx(two, rel=0.01)
  three = flops("mhd published", **norm, algo_teachers=3)
  assert three == pytest.approx(two, rel=0.03)  # one pass a client serves any number
  pool = flops("mhd pool", **norm, algo_teachers=3)
  assert pool / one == pytest.approx((6 + 3) / 6, rel=0.06)
