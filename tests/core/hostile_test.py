"""What clients that lie send: by hand, and that it is all that others get to see."""

import chex
import ensembles
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import usually

from kdjax.core import hostile
from kdjax.ending import DONE
from kdjax.report import table
from kdjax.testing import small
from kdjax.training import loop
from kdjax.types import ConfigError

KINDS = [kind for kind in hostile.KINDS if kind != "none"]
HEAD = {"kernel": jnp.array([[1.0, 2.0, 3.0], [0.0, -1.0, 0.0]]), "bias": jnp.array([0.5, 0.0, -1])}
X = np.array([2.0, 1.0])  # logits 2.5, 3, 5


@pytest.mark.parametrize(
  "kind, expected",
  [
    ("permuted", [5.0, 2.5, 3.0]),
    ("least", [-2.5, -3.0, -5.0]),
    ("constant", [4.0, 0.0, 0.0]),
    ("confident", [20.0, 10.0, 12.0]),
  ],
)
def test_a_lie_about_labels(kind, expected):
  params = {"body": {"w": jnp.ones(2)}, "heads": {"main": HEAD, "hidden": HEAD}}
  sent = hostile.lie(kind, 4.0, ("main",), params)
  logits = X @ sent["heads"]["main"]["kernel"] + sent["heads"]["main"]["bias"]
  np.testing.assert_allclose(logits, expected)
  chex.assert_trees_all_equal(sent["body"], params["body"])
  chex.assert_trees_all_equal(sent["heads"]["hidden"], HEAD)  # no head, a layer before them


def test_flipped_weights():
  sent = hostile.lie("flipped", 4.0, ("main",), {"heads": {"main": HEAD}})
  chex.assert_trees_all_equal(sent, {"heads": {"main": jax.tree.map(jnp.negative, HEAD)}})


def config(method, kind, who=(3,), **changes):
  c = ensembles.config(method, dtype="float32", **changes)
  c.hostile = dict(kind=kind, clients=who, scale=20.0)
  return c


REACHED = ("mhd pool", "mhd fresh", "mhd published", "fedmd", "fedavg", "kd", "pairwise", "fedgkt")


LISTEN = ("mhd pool", "fedmd", "fedgkt", "pairwise")


@pytest.mark.parametrize("method", usually(LISTEN, [*REACHED, "gossip average", "gossip admm"]))
def test_a_lie_reaches_those_who_listen_and_nobody_else(method):
  """On a chain client i listens to i + 1: the last lie reaches others, the first one nobody."""
  everybody = method in ("fedmd", "fedavg", "fedgkt")
  graph = dict(kind="chain", every=0, island=2, degree=2, edges=(), seed=0)
  more = dict(steps=24) if "gossip" in method else {}
  if method == "mhd pool":  # what it takes for heads to learn from heads
    more = dict(algo_aux_heads=1, algo_nu_emb=0.0)

  def trained(kind, who):
    state, _ = small.train(small.build(config(method, kind, who, graph=graph, **more)))
    return jax.device_get(state.clients[0].params)

  honest, first, last = trained("none", ()), trained("least", (0,)), trained("least", (3,))
  leaves = lambda other: zip(*map(jax.tree.leaves, (honest, other)), strict=True)
  differ = lambda other, k: any((x[k] != y[k]).any() for x, y in leaves(other))
  assert differ(last, 2)
  if not everybody and "gossip" not in method:  # whose edges have no direction
    assert not any(differ(first, k) for k in range(4))


def test_a_constant_lie_needs_heads_with_a_bias():
  """All logits would be 0, which says nothing and no class."""
  fedmd = ((4, "fedmd", dict(filters=(4, 4), dropout=0.0)),)
  with pytest.raises(ConfigError, match="hostile.kind = 'constant': .*those of fedmd have none"):
    small.build(config("separate", "constant", clients=fedmd))
  assert small.build(config("separate", "least", clients=fedmd)).env.hostile.kind == "least"


def test_the_log_leaves_out_whom_the_closing_table_leaves_out(tmp_path):
  e = small.build(config("separate", "least", (1,), steps=2, replicas=2))
  assert loop.run(e, tmp_path, command="") == DONE
  (run,) = table.read_runs(tmp_path)
  for key in ("private_accuracy", "shared_accuracy"):
    by_seed = table.over_clients(table.results(run), key)["main"]
    last = [line for line in run.metrics if line["phase"] == "eval"][-1]
    assert [last[f"{key}/main/seed{seed}"] for seed in (0, 1)] == pytest.approx(list(by_seed))
    assert last[f"{key}/main"] == pytest.approx(by_seed.mean())


def test_what_cannot_be_is_refused():
  for kind, who, method in (
    ("wrong", (1,), "separate"),
    ("least", (4,), "separate"),
    ("least", (1, 1), "separate"),
    ("least", (), "separate"),
    ("least", (0, 1, 2, 3), "separate"),
    ("least", (1,), "async edge"),
  ):
    with pytest.raises(ConfigError, match="^hostile"):
      small.build(config(method, kind, who))
