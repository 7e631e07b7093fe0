"""When benchmarks.recipe says that a recipe holds, by numbers made by hand."""

import numpy as np
import pytest

from benchmarks.recipe import HEADER, Found

SOUND = Found(
  separate=np.array([40.0, 42.0]),
  heads=np.array([[41.0, 60.0, 50.0], [43.0, 48.0, 70.0]]),  # means 42, 54, 60
  private=np.array([-1.0, -2.0]),
  collapsed=0,
)


def test_a_line_says_its_numbers_and_that_it_holds():
  cells = SOUND.line().split(" | ")
  assert cells == ["2", "41.0", "42.0 54.0 60.0", "+19.0", "+10.0", "-1.5", "0", "holds"]
  assert len(cells) == len(HEADER)


@pytest.mark.parametrize(
  "change, said",
  [
    ({"separate": np.array([40.1, 42.0])}, "last head not 10 points above separate in every seed"),
    ({"heads": SOUND.heads + [0.0, 6.0, 0.0]}, "heads do not grow"),  # means 42, 60, 60
    ({"private": np.array([-1.0, -2.1])}, "main head not within 1.5 points of separate"),
    ({"private": np.array([1.0, 2.1])}, "main head not within 1.5 points of separate"),
    ({"collapsed": 1}, "heads collapsed"),
    (
      {"private": np.array([3.0, 4.0]), "collapsed": 2},
      "main head not within 1.5 points of separate; heads collapsed",
    ),
  ],
)
def test_what_fails_is_named(change, said):
  assert SOUND._replace(**change).verdict() == said
