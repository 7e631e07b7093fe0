"""Verdicts by rule: differences paired over seeds, an effect stated beforehand, a 95 % interval."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

CONFIRMED, REFUTED, UNDECIDED = "confirmed", "refuted", "undecided"
NOT_TESTABLE, NOT_RUN = "not testable here", "not run"
VERDICTS = (CONFIRMED, REFUTED, UNDECIDED, NOT_TESTABLE)
FEWEST = 5  # seeds
LEVEL = 0.95


class Judgement(NamedTuple):
  """The verdict on a difference, in points."""

  word: str  # confirmed, refuted or undecided
  mean: float
  low: float  # the interval's ends
  high: float
  seeds: int


def interval(differences: Sequence[float]) -> tuple[float, float]:
  """Student's confidence interval of the mean of paired differences, at `LEVEL`.

  Args:
    differences: one per seed; at least two.
  """
  d = np.asarray(differences, float)
  half = stats.t.ppf((1 + LEVEL) / 2, len(d) - 1) * d.std(ddof=1) / math.sqrt(len(d))
  return float(d.mean() - half), float(d.mean() + half)


def judge(differences: Sequence[float], above: float, within: bool = False) -> Judgement:
  """Judges whether the mean paired difference lies above an effect, or within it on both sides.

  The claim is confirmed if the whole interval agrees with it, refuted if the whole interval
  contradicts it, and undecided otherwise.

  Args:
    differences: one per seed, in points.
    above: the effect, in points.
    within: whether the claim is that the two are equal to within `above`.

  Raises:
    ValueError: for fewer seeds than `FEWEST`, or a difference that is not finite.
  """
  if len(differences) < FEWEST:
    raise ValueError(f"{len(differences)} seeds: at least {FEWEST}")
  if not np.isfinite(differences).all():
    raise ValueError(f"not all of {list(differences)} are finite")
  low, high = interval(differences)
  if within:
    is_confirmed = -above < low and high < above
    is_refuted = high < -above or low > above
  else:
    is_confirmed = low > above
    is_refuted = high < above
  word = CONFIRMED if is_confirmed else REFUTED if is_refuted else UNDECIDED
  return Judgement(word, float(np.mean(differences)), low, high, len(differences))


def together(words: Sequence[str], controls: Sequence[str]) -> str:
  """The verdict on a claim: first its controls must hold, then all of its differences.

  Args:
    words: the verdicts on its differences; may be empty if a control does not hold.
    controls: the verdicts on its controls.

  Raises:
    ValueError: for a claim without controls or without differences.
  """
  if not controls:
    raise ValueError("a claim is judged after its controls, and there are none")
  if any(word != CONFIRMED for word in controls):
    return NOT_TESTABLE
  if not words:
    raise ValueError("nothing to judge")
  if any(word == REFUTED for word in words):
    return REFUTED
  return CONFIRMED if all(word == CONFIRMED for word in words) else UNDECIDED
