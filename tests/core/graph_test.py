"""Graphs by hand, their errors, and the distribution of random teachers."""

import hashlib
import time

import numpy as np
import pytest
from helpers import near

from kdjax.core import graph
from kdjax.types import ConfigError

SETTINGS = dict(island=2, degree=2, edges=((0, 2), (2, 1)), seed=0)

# Row: student; column: teacher.
BY_HAND = {
  ("complete", 3): "011 101 110",
  ("islands", 4): "0100 1000 0001 0010",
  ("cycle", 4): "0100 0010 0001 1000",
  ("cycle", 2): "01 10",
  ("cycle", 1): "0",
  ("chain", 3): "010 001 000",
  ("star", 4): "0111 1000 1000 1000",
  ("random_regular", 3): "011 101 110",  # the only one of degree 2
  ("edges", 3): "001 000 010",
  ("none", 2): "00 00",
}


def matrix(rows):
  return np.array([[c == "1" for c in row] for row in rows.split()])


@pytest.mark.parametrize("kind, K", BY_HAND)
def test_every_kind_by_hand(kind, K):
  np.testing.assert_array_equal(graph.adjacency(kind, K, **SETTINGS), matrix(BY_HAND[kind, K]))


def test_every_kind_is_tested():
  assert {kind for kind, _ in BY_HAND} == set(graph.KINDS)


def test_islands_of_three():
  expected = matrix("011000 101000 110000 000011 000101 000110")
  np.testing.assert_array_equal(graph.islands(6, 3), expected)


def test_an_edge_points_from_student_to_teacher():
  adjacency = graph.adjacency("edges", 3, island=1, degree=0, edges=[(2, 0)], seed=0)
  chosen = graph.choose(adjacency, seed=0, purpose="p", step=0, identity=np.arange(3))
  np.testing.assert_array_equal(chosen, [-1, -1, 0])  # only 2 learns, and from 0


@pytest.mark.parametrize("K, degree", [(4, 0), (4, 1), (5, 2), (6, 3), (6, 5), (10, 3), (12, 7)])
def test_random_regular(K, degree):
  graphs = [graph.random_regular(K, degree, seed) for seed in range(8)]
  for adjacency in graphs:
    np.testing.assert_array_equal(adjacency, adjacency.T)
    np.testing.assert_array_equal(adjacency.sum(1), np.full(K, degree))
    assert not adjacency.diagonal().any()
  np.testing.assert_array_equal(graphs[3], graph.random_regular(K, degree, 3))
  if 1 < degree < K - 1:
    assert len({g.tobytes() for g in graphs}) > 4


def test_graphs_of_a_seed_stay_what_they_were():
  """A run that goes on must find the graph that it was begun with."""
  edges = np.argwhere(np.triu(graph.random_regular(12, 3, 0)))
  assert edges[:4].tolist() == [[0, 1], [0, 3], [0, 10], [1, 2]]
  digest = hashlib.sha256(graph.random_regular(200, 4, 0).tobytes()).hexdigest()
  assert digest.startswith("1026cd619ad09683")


@pytest.mark.parametrize("K, degree", [(6, 2), (6, 3), (8, 5), (40, 20)])
def test_drawing_free_ends_gives_regular_graphs_too(K, degree):
  rng = np.random.default_rng(0)
  made = [g for _ in range(40) if (g := graph._drawing_ends(K, degree, rng)) is not None]
  assert made
  for adjacency in made:
    np.testing.assert_array_equal(adjacency, adjacency.T)
    np.testing.assert_array_equal(adjacency.sum(1), np.full(K, degree))
    assert not adjacency.diagonal().any()


def test_both_ways_draw_the_same_distribution():
  """Six clients of two neighbours are one ring (60 graphs) or two triangles (10)."""
  rng, n, shares = np.random.default_rng(0), 2000, []
  for attempt in (graph._weighing_pairs, graph._drawing_ends):
    made = [g for _ in range(n) if (g := attempt(6, 2, rng)) is not None]
    rings = np.mean([(graph.distances(g) >= 0).all() for g in made])
    shares += [len(made) / n, rings]
  np.testing.assert_allclose(shares[:2], shares[2:], atol=2 * near(0.8, n))


def test_many_clients_take_seconds():
  """500 clients took a minute, and the distances of 2,000 half a minute."""
  begun = time.process_time()
  adjacency = graph.random_regular(2000, 10, 0)
  assert (adjacency.sum(1) == 10).all()
  np.testing.assert_array_equal(graph.distances(graph.complete(2000)), graph.complete(2000))
  assert time.process_time() - begun < 10


def test_schedule_takes_turns():
  schedule = graph.make(4, kind="cycle, chain,none", every=10, **SETTINGS)
  cycle, chain, none = graph.cycle(4), graph.chain(4), np.zeros((4, 4), bool)
  expected = {0: cycle, 9: cycle, 10: chain, 19: chain, 20: none, 29: none, 30: cycle, 41: chain}
  for count, adjacency in expected.items():
    np.testing.assert_array_equal(schedule.at(count), adjacency)


def test_a_single_graph_holds_for_ever():
  schedule = graph.make(4, kind="cycle", every=0, **SETTINGS)
  for count in (0, 1, 10**6):
    np.testing.assert_array_equal(schedule.at(count), graph.cycle(4))


@pytest.mark.parametrize(
  "changes, key, value",
  [
    (dict(kind="ring"), "graph.kind", "ring"),
    (dict(kind="cycle,ring", every=5), "graph.kind", "ring"),
    (dict(kind="islands", island=3), "graph.island", 3),
    (dict(kind="islands", island=0), "graph.island", 0),
    (dict(kind="islands", island=8), "graph.island", 8),
    (dict(kind="random_regular", degree=4), "graph.degree", 4),
    (dict(kind="random_regular", degree=-1), "graph.degree", -1),
    (dict(kind="random_regular", degree=1, K=5), "graph.degree", 1),
    (dict(kind="edges", edges=((0, 4),)), "graph.edges", (0, 4)),
    (dict(kind="edges", edges=((-1, 2),)), "graph.edges", (-1, 2)),
    (dict(kind="edges", edges=((0, 1), (2, 2))), "graph.edges", (2, 2)),
    (dict(kind="edges", edges=((0, 1, 2),)), "graph.edges", (0, 1, 2)),
    (dict(kind="edges", edges=((0, 1.5),)), "graph.edges", (0, 1.5)),
    (dict(kind="cycle", every=5), "graph.every", 5),
    (dict(kind="cycle,chain", every=0), "graph.every", 0),
    (dict(kind="cycle,chain", every=-1), "graph.every", -1),
  ],
)
def test_errors_name_key_and_value(changes, key, value):
  with pytest.raises(ConfigError) as error:
    graph.make(**dict(K=4, every=0) | SETTINGS | changes)
  assert (error.value.key, error.value.value) == (key, value)
  assert f"{key} = {value!r}: " in str(error.value)


def test_a_single_pair_instead_of_a_list_of_pairs_is_refused():
  with pytest.raises(ConfigError) as error:
    graph.adjacency("edges", 3, island=1, degree=0, edges=(0, 1), seed=0)
  assert error.value.key == "graph.edges"


def test_distances():
  # 0 -> 1 -> 2 -> 0 is a cycle that 3 looks into; nobody looks at 3, and 4 is alone.
  adjacency = matrix("01000 00100 10000 10000 00000")
  expected = [
    [0, 1, 2, -1, -1],
    [2, 0, 1, -1, -1],
    [1, 2, 0, -1, -1],
    [1, 2, 3, 0, -1],
    [-1, -1, -1, -1, 0],
  ]
  np.testing.assert_array_equal(graph.distances(adjacency), expected)


@pytest.mark.parametrize("share", [0.03, 0.1, 0.3, 0.6])
def test_distances_are_those_of_powers(share):
  adjacency = np.random.default_rng(0).random((30, 30)) < share
  np.fill_diagonal(adjacency, False)
  expected = np.where(np.eye(30, dtype=bool), 0, -1)
  walks = np.eye(30, dtype=int)
  for hops in range(1, 30):
    walks = np.minimum(walks @ adjacency, 1)
    expected[(expected < 0) & (walks > 0)] = hops
  np.testing.assert_array_equal(graph.distances(adjacency), expected)


def test_distances_take_the_shortest_way():
  adjacency = matrix("0110 0010 0001 0000")  # 0 -> 2 directly and by 1
  np.testing.assert_array_equal(graph.distances(adjacency)[0], [0, 1, 1, 2])


# Random teachers


def draws(adjacency, n, **changes):
  arguments = dict(seed=0, purpose="refresh", identity=np.arange(len(adjacency))) | changes
  return np.stack([graph.choose(adjacency, step=t, **arguments) for t in range(n)])


def test_choose_is_uniform_over_teachers():
  n = 2000
  adjacency = matrix("0111 1000 1101 0000")
  chosen = draws(adjacency, n)
  frequency = np.stack([(chosen == j).mean(0) for j in range(4)], axis=1)  # [student, teacher]
  third = near(1 / 3, n)
  assert (chosen[:, 1] == 0).all() and (chosen[:, 3] == -1).all()
  assert frequency[0, 0] == 0 and (abs(frequency[0, 1:] - 1 / 3) < third).all()
  assert frequency[2, 2] == 0 and (abs(frequency[2, [0, 1, 3]] - 1 / 3) < third).all()
  # Students draw independently: 0 and 2 take the same one of {1, 3} in 2 of 9 cases.
  assert abs((chosen[:, 0] == chosen[:, 2]).mean() - 2 / 9) < near(2 / 9, n)
  # So do steps: the next draw repeats the last in a third of the cases.
  assert abs((chosen[1:, 0] == chosen[:-1, 0]).mean() - 1 / 3) < third


def test_choose_depends_on_its_keys_alone():
  adjacency = graph.complete(6)
  first = draws(adjacency, 20)
  np.testing.assert_array_equal(first, draws(adjacency, 20))
  assert (first != draws(adjacency, 20, seed=1)).any()
  assert (first != draws(adjacency, 20, purpose="other")).any()


def test_choose_follows_the_names_of_clients():
  """Clients that stand elsewhere choose the same ones."""
  adjacency = graph.adjacency("random_regular", 6, island=1, degree=3, edges=(), seed=2)
  name = np.array([3, 0, 5, 1, 4, 2])
  base = draws(adjacency, 20)  # by name
  moved = draws(adjacency[np.ix_(name, name)], 20, identity=name)  # by place
  np.testing.assert_array_equal(name[moved], base[:, name])


def test_choose_does_not_depend_on_clients_out_of_reach():
  large = np.zeros((5, 5), bool)
  large[:3, :3] = graph.complete(3)
  np.testing.assert_array_equal(draws(large, 20)[:, :3], draws(graph.complete(3), 20))
