"""Verdicts by the rule, expectations by hand: t(0.975, 4) = 2.776445."""

import math

import numpy as np
import pytest

from kdjax.reproduce import verdict
from kdjax.reproduce.verdict import CONFIRMED, NOT_TESTABLE, REFUTED, UNDECIDED

FIVE = (1.0, 2.0, 3.0, 4.0, 5.0)  # mean 3, standard deviation sqrt(2.5)
HALF = 2.776445 * math.sqrt(2.5) / math.sqrt(5)  # 1.963


def test_the_interval_is_student_s():
  np.testing.assert_allclose(verdict.interval(FIVE), (3 - HALF, 3 + HALF), rtol=1e-6)


@pytest.mark.parametrize(
  "above, within, word",
  [
    (1.0, False, CONFIRMED),  # the interval is 1.04 .. 4.96
    (1.1, False, UNDECIDED),
    (4.9, False, UNDECIDED),
    (5.0, False, REFUTED),
    (5.0, True, CONFIRMED),
    (4.0, True, UNDECIDED),
    (1.0, True, REFUTED),
  ],
)
def test_the_word_is_where_the_interval_lies(above, within, word):
  found = verdict.judge(FIVE, above, within)
  assert (found.word, found.mean, found.seeds) == (word, 3.0, 5)


def test_differences_that_are_all_alike_are_judged_by_their_value():
  assert verdict.judge([2.0] * 5, 1.0).word == CONFIRMED
  assert verdict.judge([2.0] * 5, 3.0).word == REFUTED


@pytest.mark.parametrize("differences", [FIVE[:4], (*FIVE[:4], math.nan), (*FIVE[:4], math.inf)])
def test_few_seeds_and_numbers_that_are_none_are_not_judged(differences):
  with pytest.raises(ValueError):
    verdict.judge(differences, 0.0)


@pytest.mark.parametrize(
  "words, controls, whole",
  [
    ([CONFIRMED, CONFIRMED], [CONFIRMED], CONFIRMED),
    ([CONFIRMED, UNDECIDED], [CONFIRMED], UNDECIDED),
    ([REFUTED, CONFIRMED], [CONFIRMED], REFUTED),
    ([REFUTED, UNDECIDED], [CONFIRMED, CONFIRMED], REFUTED),
    ([CONFIRMED], [CONFIRMED, UNDECIDED], NOT_TESTABLE),
    ([CONFIRMED], [REFUTED], NOT_TESTABLE),
    ([], [REFUTED], NOT_TESTABLE),
  ],
)
def test_a_claim_is_as_sure_as_its_weakest_part_and_its_controls_come_first(words, controls, whole):
  assert verdict.together(words, controls) == whole


@pytest.mark.parametrize("words, controls", [([CONFIRMED], []), ([], [CONFIRMED])])
def test_nothing_is_judged_without_a_control_or_without_a_difference(words, controls):
  with pytest.raises(ValueError):
    verdict.together(words, controls)
