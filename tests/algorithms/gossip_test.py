"""Gossip: both variants against NumPy, and ADMM to the minimiser of what it minimises."""

import chex
import ensembles
import jax
import numpy as np
import pytest
import regression

from kdjax.algorithms import gossip
from kdjax.core import graph
from kdjax.training import schedule
from kdjax.types import ConfigError

EIGHT = (8, 8, 8)  # examples a client: one step is an epoch
CHAIN = dict(kind="chain", every=0, island=2, degree=2, edges=(), seed=0)


@pytest.fixture(autouse=True)
def float64():
  with jax.enable_x64(True):
    yield


def edge(round, linked, seed=0):
  names = np.arange(len(linked))
  return gossip.woken(linked, seed=seed, round=round, identity=names).tolist()


def run(variant, rounds, sizes=EIGHT, **changes):
  """(experiment, first and last weights) of softmax regressions on a chain, on split batches."""
  c = regression.config(f"gossip {variant}", 3, rounds, **{"graph": CHAIN, **changes})
  e = ensembles.build(c, data_=ensembles.data(3, sizes), mesh=2)
  assert dict(e.env.mesh.shape) == {"client": 1, "data": 2}
  first = e.init()
  before = [regression.weights(params) for params, _ in ensembles.by_client(e, first)]
  last, _ = ensembles.train(e, first)
  return e, before, [regression.weights(params) for params, _ in ensembles.by_client(e, last)]


def test_pairs_average_and_are_held_at_their_last_average():
  rho, chain = 0.25, gossip.neighbours(graph.Schedule(graph.chain(3)[None], 0))
  e, w, last = run("average", 4, algo_rho=rho)
  x, y = zip(*(regression.examples(e, p) for p in e.data.shards.private), strict=True)
  anchor = list(w)
  for round in range(4):
    pull = [regression.gradient(w[k], x[k], y[k]) + rho * (w[k] - anchor[k]) for k in range(3)]
    w = [w[k] - regression.LR * pull[k] for k in range(3)]
    i, j = edge(round, chain)
    w[i] = w[j] = anchor[i] = anchor[j] = (w[i] + w[j]) / 2
  chex.assert_trees_all_close(last, w, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("variant", ["average", "admm"])
def test_statistics_are_averaged_with_the_weights_or_stay(variant):
  c = ensembles.config(
    f"gossip {variant}", ((3, *ensembles.MLP),), steps=0, norm="batch", graph=CHAIN
  )
  c.rounds = 1
  e = ensembles.build(c, data_=ensembles.data(3, EIGHT))
  before, after = (
    [stats for _, stats in ensembles.by_client(e, ensembles.train(e, calls=n)[0])] for n in (1, 2)
  )
  i, j = edge(0, gossip.neighbours(e.env.graph))
  with pytest.raises(AssertionError):
    chex.assert_trees_all_close(before[i], before[j], rtol=0.01)
  if variant == "average":
    before[i] = before[j] = jax.tree.map(lambda a, b: (a + b) / 2, before[i], before[j])
  chex.assert_trees_all_equal(after, before)


class Edges:
  """CL-ADMM as its paper writes it: copies, four consensus and four dual vectors an edge."""

  def __init__(self, theta, linked, rho):
    pairs = [(i, j) for i, j in zip(*np.nonzero(linked), strict=True)]
    self.rho = rho
    # {(client, edge's other end, whose model)}
    self.z = {(i, j, k): theta[i].copy() for i, j in pairs for k in (i, j)}
    self.dual = {key: np.zeros_like(z) for key, z in self.z.items()}

  def copy(self, theta, i, j):
    """What minimises |theta_i - c|^2 / 2 + dual . c + rho |c - z|^2 / 2 over client i's c of j."""
    return (theta[i] + self.rho * self.z[i, j, j] - self.dual[i, j, j]) / (1 + self.rho)

  def pull(self, theta, i):
    """Gradient in theta_i of all that is not its loss."""
    total = 0
    for a, j, k in self.z:
      if (a, k) == (i, i):
        total = total + theta[i] - self.copy(theta, i, j)
        total = total + self.dual[i, j, i] + self.rho * (theta[i] - self.z[i, j, i])
    return total

  def wake(self, theta, i, j):
    """Consensus, then duals."""
    says = {(a, b, k): theta[a] if k == a else self.copy(theta, a, b) for a, b, k in self.z}
    for k in (i, j):
      z = sum(says[a, b, k] + self.dual[a, b, k] / self.rho for a, b in ((i, j), (j, i))) / 2
      for key in ((i, j, k), (j, i, k)):
        self.z[key] = z
        self.dual[key] = self.dual[key] + self.rho * (says[key] - z)


def test_admm_takes_the_steps_of_its_paper():
  rho, mu, rounds = 0.5, 0.75, 6
  chain = gossip.neighbours(graph.Schedule(graph.chain(3)[None], 0))
  e, w, last = run("admm", rounds, algo_rho=rho, algo_mu=mu)
  assert {tuple(edge(round, chain)) for round in range(rounds)} == {(0, 1), (1, 2)}
  x, y = zip(*(regression.examples(e, p) for p in e.data.shards.private), strict=True)
  edges = Edges(w, chain, rho)
  for round in range(rounds):
    loss = [mu * chain[k].sum() * regression.gradient(w[k], x[k], y[k]) for k in range(3)]
    w = [w[k] - regression.LR * (loss[k] + edges.pull(w, k)) for k in range(3)]
    edges.wake(w, *edge(round, chain))
  chex.assert_trees_all_close(last, w, rtol=1e-10, atol=1e-12)


def test_admm_weighs_a_loss_by_neighbours_and_by_examples():
  """One step from the first weights, where nothing pulls: mu D_ii n_i / max n gradients."""
  e, w, last = run("admm", 1, sizes=(8, 6, 4), algo_mu=0.5, batch=8)
  for k, weight in enumerate((0.5, 0.5 * 2 * 6 / 8, 0.5 * 4 / 8)):
    x, y = regression.examples(e, e.data.shards.private[k])
    step = regression.LR * weight * regression.gradient(w[k], x, y)
    chex.assert_trees_all_close(last[k], w[k] - step, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("K", [2, 3])
def test_admm_on_quadratic_losses_ends_at_the_collaborative_minimiser(K):
  """L_i = (theta - t_i)' A_i (theta - t_i) / 2, every primal problem solved exactly."""
  rng, L, rho, mu = np.random.default_rng(K), 4, 1.0, 0.3
  linked = gossip.neighbours(graph.Schedule(graph.chain(K)[None], 0))
  degree = linked.sum(1)
  A = np.stack([m @ m.T + np.eye(L) for m in rng.normal(size=(K, L, L))])
  t = rng.normal(size=(K, L))
  # sum_{i < j} |theta_i - theta_j|^2 + mu sum_i D_ii L_i: a linear system in all theta at once
  laplacian = np.diag(degree) - linked
  system = 2 * np.kron(laplacian, np.eye(L))
  for i in range(K):
    system[i * L : (i + 1) * L, i * L : (i + 1) * L] += mu * degree[i] * A[i]
  right = np.concatenate([mu * degree[i] * A[i] @ t[i] for i in range(K)])
  minimiser = np.linalg.solve(system, right).reshape(K, L)

  theta = rng.normal(size=(K, L))
  z = np.broadcast_to(theta[:, None, None], (K, K, 2, L)).copy()
  dual = np.zeros_like(z)
  strength = degree * rho * (2 + rho) / (1 + rho)
  for round in range(300):
    for i in range(K):
      pull = np.asarray(gossip.anchor(z[i], dual[i], linked[i], rho=rho))
      hessian = mu * degree[i] * A[i] + strength[i] * np.eye(L)
      theta[i] = np.linalg.solve(hessian, mu * degree[i] * A[i] @ t[i] + strength[i] * pull)
    i, j = edge(round, linked)
    said = {a: gossip.tell(theta[a], z[a, b], dual[a, b], rho=rho) for a, b in ((i, j), (j, i))}
    for a, b in ((i, j), (j, i)):
      z[a, b], dual[a, b] = gossip.agree(said[a], said[b], rho=rho)
  assert np.abs(minimiser - t).max() > 0.1  # neighbours matter
  chex.assert_trees_all_close(theta, minimiser, rtol=0, atol=1e-6)


def test_every_edge_wakes_as_often_as_any_other():
  linked = gossip.neighbours(graph.Schedule(graph.cycle(4)[None], 0))
  found = [tuple(edge(round, linked)) for round in range(2000)]
  share = [found.count(pair) / 2000 for pair in ((0, 1), (1, 2), (2, 3), (0, 3))]
  assert sum(share) == 1.0 and max(share) - min(share) < 0.08  # 0.25 +- 4 sigma
  assert [edge(round, linked, seed=1) for round in range(20)] != [list(p) for p in found[:20]]


def test_bytes_are_two_models_an_edge_and_four_where_both_ends_tell_of_both():
  numbers = (36 + 1) * ensembles.CLASSES
  for variant, models in (("average", 2), ("admm", 4)):
    c = regression.config(f"gossip {variant}", 3, rounds=2, replicas=2)
    e = ensembles.build(c, data_=ensembles.data(3, EIGHT, R=2))
    sent = schedule.bytes_sent(e.algorithm, e.visits, 4)
    assert sent == {"weights": 2 * 2 * models * 8 * numbers}


ALONE = CHAIN | dict(kind="edges", edges=((0, 1),))


@pytest.mark.parametrize(
  "key, changes",
  [
    ("clients", dict(clients=((2, *ensembles.MLP), (1, *ensembles.WIDE)))),
    ("graph", dict(graph=ALONE)),
    ("algo.variant", dict(algo_variant="mean")),
    ("algo.local_epochs", dict(algo_local_epochs=0)),
    ("algo.rho", dict(algo_rho=0.0)),
    ("algo.mu", dict(algo_mu=0.0)),
  ],
)
def test_what_cannot_be_is_refused(key, changes):
  c = ensembles.config("gossip admm", **{"clients": ((3, *ensembles.MLP),), **changes})
  with pytest.raises(ConfigError, match=f"^{key} = "):
    ensembles.build(c, data_=ensembles.data(3, EIGHT))


def test_a_negative_pull_is_refused():
  with pytest.raises(ConfigError, match="algo.rho"):
    ensembles.build(ensembles.config("gossip average", algo_rho=-1.0))
