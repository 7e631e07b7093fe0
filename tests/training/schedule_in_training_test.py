"""Graphs that take turns while training: no new trace, and what each of them lets through."""

import ensembles
import jax
import numpy as np

from kdjax.training import schedule
from kdjax.training.stepper import Stepper

STEPS, U, M = 8, 8, 2  # batches, public examples of each, auxiliary heads
SMALL = dict(dtype="float32", algo_teachers=1, algo_pool_size=1, algo_refresh_every=2)


def build(method, kind):
  graph = dict(kind=kind, every=2, island=2, degree=2, edges=(), seed=0)
  c = ensembles.config(method, steps=STEPS, graph=graph, **SMALL)
  c.mesh.steps_per_dispatch = 1  # so that the losses of every step can be read
  return ensembles.build(c)


def trained(e):
  """(losses of each training step, pools after each refresh)."""
  stepper, losses, pools = Stepper(e), [], []
  state = stepper.init()
  for one in stepper.dispatches(0):
    state, (aux,) = stepper.run(state, one)  # compiled once, for the shapes of the first call
    if one.visit.phase.feed:
      losses.append(jax.device_get(aux))
    else:
      pools.append(jax.device_get(state.local[0]))
  return losses, pools


def bytes_sent(e):
  last = e.visits[-1]
  return schedule.bytes_sent(e.algorithm, e.visits, last.start + last.calls)


def learns(losses, name):
  """bool[steps, K]: whether a distillation loss is there; it is exactly zero where it is not."""
  return np.stack([aux[name] for aux in losses]) > 0


def test_fresh_messages_follow_the_graph_of_the_step():
  """A cycle for two batches, then a chain, on which client 3 has no teacher, and so on."""
  e = build("mhd fresh", "cycle,chain")
  assert [e.env.graph.at(n).sum() for n in range(STEPS)] == [4, 4, 3, 3, 4, 4, 3, 3]
  losses, _ = trained(e)
  expected = np.ones((STEPS, 4), bool)
  expected[[2, 3, 6, 7], 3] = False
  for name in ("aux1", "aux2", "embedding"):
    np.testing.assert_array_equal(learns(losses, name), expected)
  alone = losses[2]
  assert alone["loss"][3] == alone["cross_entropy"][3]
  messages = 4 * 4 + 4 * 3  # listeners: four batches of either graph
  width, classes = 8, ensembles.CLASSES
  assert bytes_sent(e) == {
    "predictions": messages * U * M * classes * 4,
    "embeddings": messages * U * width * 4,
  }


def test_pools_follow_the_graph_of_the_refresh():
  """A chain first: client 3's pool is empty until the refresh after batch 2, on the cycle."""
  e = build("mhd pool", "chain,cycle")
  losses, pools = trained(e)
  expected = np.ones((STEPS, 4), bool)
  expected[:2, 3] = False
  for name in ("aux1", "aux2", "embedding"):
    np.testing.assert_array_equal(learns(losses, name), expected)
  assert [p.peer[:, 0].tolist() for p in pools] == [[1, 2, 3, 0]] * 4
  # On a chain client 3 fetches nothing and keeps what it has.
  assert [p.born[:, 0].tolist() for p in pools] == [[2] * 4, [4, 4, 4, 2], [6] * 4, [8, 8, 8, 6]]
  pixels, hidden, heads, classes = 36, 8, 1 + M, ensembles.CLASSES
  snapshot = 4 * (pixels * hidden + hidden + heads * (hidden * classes + classes))
  # Three first weights, then refreshes on cycle, chain, cycle, chain.
  assert bytes_sent(e) == {"checkpoints": (3 + 4 + 3 + 4 + 3) * snapshot}
