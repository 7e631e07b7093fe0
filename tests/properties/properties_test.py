"""What holds for every method: one table of methods, many properties."""

import chex
import ensembles
import jax
import numpy as np
import pytest
from helpers import usually

from kdjax import testing
from kdjax.training import schedule

METHODS = [m for m in ensembles.METHODS if m not in ensembles.VARIANTS]
# `meshes agree` is in meshes_test.py, on more meshes and with what the compiler makes of it.
KIT = [name for name in testing.PROPERTIES if name != "meshes agree"]
# What the programs of another setting contain is left out of what reads programs.
SAME = {"work is shared": {"fedgkt async"}, "sums are few": {"fedgkt async"}}
ALL = ("structure is kept", "faults stay")  # of every variant too
MORE = {"work is shared": ["mhd top-k"], "replicas fold": ["gossip admm"]}


def held(name):
  """The methods under a property."""
  methods = list(ensembles.METHODS) if name in ALL else METHODS + MORE.get(name, [])
  return [m for m in methods if m not in SAME.get(name, ())]


# Without `--thorough`: each property on one method of a kind, the long ones on the most different.
ONE_OF_A_KIND = {"separate", "fedavg", "mhd pool", "fedmd", "kd", "gossip average", "fedgkt"}
ONE_OF_A_KIND |= {"pairwise", "async edge"}
MOST_DIFFERENT = {"fedavg", "mhd pool", "fedgkt", "pairwise"}
USUALLY = {"replicas fold": MOST_DIFFERENT, "work is shared": {"mhd pool", "fedgkt"}}
USUALLY |= {"faults stay": MOST_DIFFERENT, "names are kept": {"mhd pool", "kd"}}
CASES = [
  pytest.param(n, m, marks=() if m in USUALLY.get(n, ONE_OF_A_KIND) else pytest.mark.thorough)
  for n in KIT
  for m in held(n)
]


@pytest.mark.parametrize("name, method", CASES)
def test_every_method_has_every_property(name, method):
  testing.check(name, ensembles.METHODS[method])


@pytest.fixture(autouse=True)
def float64():
  with jax.enable_x64(True):
    yield


@pytest.mark.parametrize("model", [ensembles.MLP, ensembles.CNN], ids=["mlp", "cnn"])
def test_fused_clients_equal_clients_run_one_by_one(model):
  source, shards = ensembles.data()
  fused = ensembles.build(
    ensembles.config("separate", ((4, *model),), norm="batch", steps=10), data_=(source, shards)
  )
  together = ensembles.by_client(fused, ensembles.train(fused)[0])
  for k in range(4):
    mine = shards.__class__(
      (shards.private[k],), shards.public, ((),), shards.label_counts[k : k + 1]
    )
    e = ensembles.build(
      ensembles.config("separate", ((1, *model),), norm="batch", steps=10),
      data_=(source, mine),
      identity=(k,),
    )
    (alone,) = ensembles.by_client(e, ensembles.train(e)[0])
    chex.assert_trees_all_close(alone, together[k], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("exchange", ["mhd pool", "mhd fresh"])
def test_without_teachers_mhd_is_separate_training(exchange):
  graph = dict(kind="none", every=0, island=2, degree=2, edges=(), seed=0)
  mhd = ensembles.build(ensembles.config(exchange, norm="batch", graph=graph))
  alone = ensembles.build(ensembles.config("separate", norm="batch"))
  with_heads = ensembles.by_client(mhd, ensembles.train(mhd)[0])
  without = ensembles.by_client(alone, ensembles.train(alone)[0])
  for (params, statistics), (expected, expected_statistics) in zip(
    with_heads, without, strict=True
  ):
    chex.assert_trees_all_close(_without_aux(params), expected, rtol=1e-10)
    chex.assert_trees_all_close(statistics, expected_statistics, rtol=1e-10)


def _without_aux(tree):
  return (
    {k: _without_aux(v) for k, v in tree.items() if not k.startswith("aux")}
    if isinstance(tree, dict)
    else tree
  )


@pytest.mark.parametrize(
  "method, local_map",
  usually(
    {"fedavg", "separate"},
    [*(("mhd pool", m) for m in ("vmap", "scan")), ("fedavg", "vmap"), ("separate", "unroll")],
  ),
)
def test_replicas_folded_into_one_run_give_the_same_numbers(method, local_map):
  """Bit for bit under scan and unroll, to 1e-5 under vmap; in float32."""
  source, shards = ensembles.data(K=3, R=2)
  three = ((3, *ensembles.MLP),)
  small = lambda **kw: ensembles.config(method, three, norm="batch", dtype="float32", **kw)
  folded = ensembles.build(small(replicas=2), data_=(source, shards), local_map=local_map)
  together = ensembles.by_client(folded, ensembles.train(folded)[0])
  for r in (0, 1) if (method, local_map) == ("mhd pool", "scan") else (1,):
    mine = slice(3 * r, 3 * r + 3)
    own = shards.__class__(
      shards.private[mine], shards.public[r : r + 1], ((),) * 3, shards.label_counts[mine]
    )
    e = ensembles.build(small(seed=r), data_=(source, own), local_map=local_map)
    alone = ensembles.by_client(e, ensembles.train(e)[0])
    if local_map == "vmap":
      chex.assert_trees_all_close(together[mine], alone, rtol=1e-5, atol=1e-5)
    else:
      chex.assert_trees_all_equal(together[mine], alone)


def test_clients_without_data_in_a_step_rest_entirely():
  """Unequal epochs: the shortest client's last steps change neither weights nor momentum."""
  e = ensembles.build(ensembles.config("fedmd", norm="batch"), data_=ensembles.data(sizes=(9, 40)))
  first = e.visits[0]
  assert first.phase.name == "private training" and first.calls == 5  # ceil(40 / 8)
  early, _ = ensembles.train(e, calls=2)  # 9 examples are 2 batches
  late, _ = ensembles.train(e, calls=5)
  rests = lambda s, k: jax.tree.map(lambda x: np.asarray(x[k]), s.clients[0])
  for k in (0, 2):
    chex.assert_trees_all_equal(rests(early, k), rests(late, k))
  with pytest.raises(AssertionError):
    chex.assert_trees_all_close(rests(early, 1), rests(late, 1), rtol=1e-6)


def test_fewer_messages_than_teachers_are_counted_by_the_graph():
  """Fresh exchange on a chain of 4: three clients hear one teacher a step."""
  graph = dict(kind="chain", every=0, island=2, degree=2, edges=(), seed=0)
  e = ensembles.build(ensembles.config("mhd fresh", graph=graph, dtype="float32"))
  sent = schedule.bytes_sent(e.algorithm, e.visits, 8)
  U, m, C, F = 8, 2, ensembles.CLASSES, 8
  assert sent == {"predictions": 8 * 3 * U * m * C * 4, "embeddings": 8 * 3 * U * F * 4}


def test_top_k_messages_hold_probabilities_and_indices():
  e = ensembles.build(ensembles.config("mhd top-k", dtype="float32", algo_nu_emb=0.0))
  sent = schedule.bytes_sent(e.algorithm, e.visits, 8)
  U, m, k, D = 8, 2, 2, 2
  assert sent == {"predictions": 8 * 4 * D * U * m * k * (4 + 4)}


def test_pool_counts_snapshots_and_fedavg_weights():
  e = ensembles.build(ensembles.config("mhd pool", dtype="float32"))
  pixels, hidden, heads, C = 36, 8, 3, ensembles.CLASSES
  snapshot = 4 * (pixels * hidden + hidden + heads * (hidden * C + C))
  sent = schedule.bytes_sent(e.algorithm, e.visits, 12)
  # Three distinct teachers at the start; four refreshes in eight batches, one snapshot a client.
  assert sent == {"checkpoints": (4 * 3 + 4 * 4) * snapshot}

  e = ensembles.build(ensembles.config("fedavg", dtype="float32", steps=6))
  model = 4 * (pixels * hidden + hidden + hidden * C + C)
  # The server's broadcast, then two averages: every client sends its model and receives one.
  sent = schedule.bytes_sent(e.algorithm, e.visits, 8)
  assert sent == {"weights": 4 * model + 2 * 2 * 4 * model}


def test_fedmd_counts_logits_to_and_from_the_server():
  e = ensembles.build(ensembles.config("fedmd", dtype="float32"))
  last = e.visits[-1]
  sent = schedule.bytes_sent(e.algorithm, e.visits, last.start + last.calls)
  assert sent == {"logits": 2 * 2 * 4 * 12 * ensembles.CLASSES * 4}  # 2 rounds, up and down
