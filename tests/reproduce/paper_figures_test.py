"""Figures of numbers that are made by hand."""

import json

import numpy as np
import pytest
from toy_paper import PAPER, write_run

from kdjax.reproduce import figures, numbers, runs
from kdjax.reproduce.claims import Costs, Curves, Matrices, Quantity
from kdjax.types import ConfigError


def curves(asked, key, lines):
  """The axes of a figure of one curve, whose run logged these lines."""
  folder = write_run(asked, "a", (0.9,) * 5)
  (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
  blocks = runs.runs(asked, PAPER, PAPER.task("t"), "a")
  (axes,) = figures._curves(Curves("c", "", "y", {"A": ("a", key)}, {}), {"a": blocks}).axes
  return axes


def test_an_accuracy_s_curve_is_in_percent_and_has_the_band_that_was_logged(asked):
  key = "shared_accuracy/main"
  lines = [
    {"step": 10, "phase": "eval", key: 0.5, f"{key}/std": 0.125},
    {"step": 15, "phase": "train", "loss": 1.0},
    {"step": 20, "phase": "eval", key: 0.75, f"{key}/std": 0.0625},
  ]
  axes = curves(asked, key, lines)
  np.testing.assert_allclose(axes.lines[0].get_xydata(), [[10, 0.5], [20, 0.75]])
  low, high = axes.get_ylim()
  assert 0.3 < low < 0.375 and 0.8125 < high < 0.9  # what is drawn, bands included, and no more
  assert axes.yaxis.get_major_formatter()(0.5) == "50%"
  corners = {tuple(corner) for corner in axes.collections[0].get_paths()[0].vertices}
  assert corners == {(10, 0.375), (10, 0.625), (20, 0.6875), (20, 0.8125)}
  assert axes.get_title("left") == figures.BAND


@pytest.mark.parametrize("apart", [0.001, 0.06, 0.14, 0.5])
def test_ticks_of_accuracies_are_whole_points_and_none_is_there_twice(asked, apart):
  key = "shared_accuracy/main"
  lines = [{"step": i, "phase": "eval", key: 0.3 + i * apart} for i in (0, 1)]
  axes = curves(asked, key, lines)
  low, high = axes.get_ylim()
  shown = np.array([y for y in axes.get_yticks() if low <= y <= high])
  assert len(shown) > 2
  np.testing.assert_allclose(100 * shown, np.unique(np.round(100 * shown)), atol=1e-9)


def test_what_is_no_accuracy_is_drawn_as_it_was_logged(asked):
  axes = curves(asked, "drift", [{"step": 10, "phase": "drift", "drift": 0.25}])
  np.testing.assert_allclose(axes.lines[0].get_xydata(), [[10, 0.25]])
  assert axes.get_ylabel() == "y" and "%" not in axes.yaxis.get_major_formatter()(0.25)
  assert axes.get_title("left") == "" and not axes.collections  # no spread was logged


def test_a_curve_that_no_run_logged_is_refused_by_its_key(asked):
  with pytest.raises(ConfigError) as error:
    curves(asked, "drift", [{"step": 10, "phase": "train", "loss": 1.0}])
  assert error.value.value == "drift"


def test_the_spread_over_blocks_of_seeds_is_that_of_all_values_together():
  one, other = (0.1, 0.3), (0.3, 0.7)  # of two blocks
  block = lambda values: np.array([[10, np.mean(values), np.std(values)], [20, 1.0, 0.0]])
  found = figures.pooled([block(one), block(other)[:1]])  # the second was logged less often
  np.testing.assert_allclose(found, [[10, 0.35, np.sqrt(0.19 / 4)]])


def test_a_cost_is_found_by_its_dotted_key_and_added_up():
  result = {"bytes_sent": 3.0, "flops": {"edge": 4.0, "server": 5.0}}
  assert [numbers.cost_of(key, result) for key in ("bytes_sent", "flops.edge", "flops")] == [
    3,
    4,
    9,
  ]


@pytest.mark.parametrize("costs", [(2.1e9, 4.9e9), (0.0, 3e6), (1e5, 2e9)])
def test_costs_of_any_range_can_be_read_off_the_axis(costs):
  results = {
    arm: [{"bytes_sent": cost, "shared_accuracy": {"main": [0.5 + seed / 10]}} for seed in (0, 1)]
    for arm, cost in zip("ab", costs, strict=True)
  }
  series = {arm: Quantity(arm) for arm in "ab"}
  (axes,) = figures._costs(Costs("c", "", "bytes_sent", "sent", "y", series, {}), results).axes
  low, high = axes.get_xlim()
  shown = [x for x in axes.get_xticks() if low <= x <= high]
  assert low <= min(costs) < max(costs) <= high and len(shown) >= 2
  assert axes.xaxis.get_major_formatter()(2e9) == "2 G"


def test_matrices_are_those_of_the_clients_asked_for():
  counts = np.zeros((2, 2, 2))  # [K, C, C]
  counts[0], counts[1] = [[3, 1], [0, 4]], [[0, 8], [8, 0]]
  results = {"a": [{"confusion": {"main": counts.tolist()}}] * 5}
  one = Matrices("m", "", {"x": ("a", "confusion", "main")}, {}, clients=(0,))
  (axes,) = figures._matrices(one, results).axes
  np.testing.assert_allclose(axes.images[0].get_array(), [[75, 25], [0, 100]])


def test_no_two_series_look_alike():
  looks = [figures._look(i) for i in range(30)]
  assert len({(look["color"], look["marker"]) for look in looks}) == 30
