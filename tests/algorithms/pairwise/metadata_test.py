"""Choosing sources by metadata, by hand (U10)."""

import numpy as np
import pytest
from helpers import make_env, with_task

from kdjax.algorithms.pairwise import metadata

SMALL = (("dense", (4, 8)), ("main", (8, 6)))
WIDE = (("dense", (4, 16)), ("main", (16, 6)))
COUNTS = np.array(
  [
    [50, 40, 0, 0, 0, 0],
    [0, 0, 30, 30, 0, 0],
    [2, 2, 3, 3, 90, 80],
    [0, 0, 0, 0, 20, 0],
  ]
)
LAYERS = (SMALL, WIDE, SMALL, (("dense", (4, 8)), ("main", (16, 6))))
EVERYONE = ~np.eye(4, dtype=bool)


def test_sources_are_ranked_by_examples_of_new_classes():
  ranked = metadata.rank(COUNTS, EVERYONE, LAYERS, new_below=1)
  assert ranked[0] == [2, 1, 3]  # 176 examples of classes 2 to 5; 60; 20
  assert ranked[1] == [2, 0, 3]  # 174 of classes 0, 1, 4, 5; 90; 20
  assert ranked[2] == [0, 3, 1]  # nothing is new: layers in common 2, 1, 0
  assert ranked[3] == [0, 2, 1]  # 90 each, client 2 of classes 0 to 3 and 5; 60


def test_a_class_seen_a_few_times_may_count_as_new():
  ranked = metadata.rank(COUNTS, EVERYONE, LAYERS, new_below=5)
  assert ranked[2] == [0, 1, 3]  # classes 0 to 3 are new to client 2: 90; 60; 0


def test_last_ties_go_by_number_and_only_candidates_are_listed():
  counts, layers = np.ones((3, 2), int), (SMALL,) * 3
  candidates = np.array([[0, 1, 1], [1, 0, 0], [0, 0, 0]], bool)
  assert metadata.rank(counts, candidates, layers, new_below=1) == [[1, 2], [0], []]


@pytest.mark.parametrize("name", [(0, 1, 2, 3), (2, 0, 3, 1)])
def test_the_best_are_chosen_whatever_the_order_of_clients(name):
  """Ties go by name; the graph and the counts are by place."""
  by_name = np.ones((4, 4), bool)
  by_name[2] = [False, True, False, True]  # client 0 is none of client 2's teachers
  np.fill_diagonal(by_name, False)
  placed = dict(identity=name, adjacency=by_name[np.ix_(name, name)])
  env = make_env(cohorts=((0, 1, 2, 3),), classes=6, **placed)
  env = with_task(env, label_counts=COUNTS[list(name)])
  found = metadata.choose(env, 0, best=2, new_below=1)
  best = {0: [2, 1], 1: [2, 0], 2: [1, 3], 3: [0, 2]}  # 1 and 3 offer client 2 nothing: a tie
  assert [[name[a] for a in row] for row in found] == [best[b] for b in name]
