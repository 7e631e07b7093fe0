"""Judges claims on tasks: first the controls, then the differences if the controls hold."""

from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from kdjax.reproduce import numbers, verdict
from kdjax.reproduce.claims import (
  Claim,
  Difference,
  Paper,
  Quantity,
  Task,
  arms_of,
  quantities,
)
from kdjax.reproduce.runs import Asked, NotHere, runs
from kdjax.reproduce.verdict import NOT_RUN, Judgement


class Side(NamedTuple):
  """One quantity of a difference over seeds, percent."""

  name: str
  mean: float
  spread: float  # standard deviation over seeds
  paper: float | None


class Row(NamedTuple):
  """The result of a difference."""

  kind: str  # 'claim', or the words of a control
  left: Side
  right: Side
  above: float
  within: bool
  found: Judgement


class Collapsed(NamedTuple):
  """Collapsed heads of an arm, counted over clients and seeds."""

  arm: str
  head: str
  to_the_end: int
  for_a_while: int


class Judged(NamedTuple):
  """The verdict on a claim on a task."""

  paper: str
  claim: Claim
  task: str
  word: str
  rows: tuple[Row, ...]  # controls first
  note: str  # why it was not run, or why that is the verdict
  collapsed: tuple[Collapsed, ...]  # in the arms that have run

  @property
  def name(self) -> str:
    """The claim's name with its paper's: 'mhd.heads'."""
    return f"{self.paper}.{self.claim.name}"


Results = Callable[[str], list[dict[str, Any]] | None]  # arm -> its results; None: not finished


def results_of(asked: Asked, paper: Paper, task: Task) -> Results:
  """A function that returns an arm's results of every seed, and reads them once."""
  read: dict[str, list[dict[str, Any]] | None] = {}

  def get(arm):
    if arm not in read:
      read[arm] = numbers.results(runs(asked, paper, task, arm))
    return read[arm]

  return get


def have(found: Results, differences: tuple[Difference, ...]) -> bool:
  """Whether all runs that some differences need have finished."""
  return all(found(q.arm) is not None for d in differences for q in quantities(d))


def controls_hold(claim: Claim, found: Results) -> bool | None:
  """Whether a claim's controls hold; None if they have not run."""
  if not have(found, tuple(c.difference for c in claim.controls)):
    return None
  return all(_judged(c.difference, found).word == verdict.CONFIRMED for c in claim.controls)


def judge(
  asked: Asked, paper: Paper, claim: Claim, task: Task, found: Results | None = None
) -> Judged:
  """The verdict on a claim by one task's finished runs.

  Args:
    asked: the command line.
    paper, claim, task: the claim of a paper, on one of its tasks.
    found: `results_of` the task, if it has been read; None: it is read now.

  Raises:
    ConfigError: if a run did not measure a quantity of the claim.
  """
  found = found or results_of(asked, paper, task)
  first_arm = runs(asked, paper, task, next(iter(paper.arms)))
  if isinstance(first_arm, NotHere):
    return Judged(paper.name, claim, task.name, NOT_RUN, (), first_arm.why, ())
  if controls_hold(claim, found) is None:
    return Judged(paper.name, claim, task.name, NOT_RUN, (), "its controls have not run", ())
  heads = collapsed(claim, found)
  rows = tuple(_row(control.shows, control.difference, found, task) for control in claim.controls)
  held = [row.found.word for row in rows]
  if all(word == verdict.CONFIRMED for word in held):
    if not have(found, claim.differences):
      return Judged(paper.name, claim, task.name, NOT_RUN, rows, "has not run to its end", heads)
    rows += tuple(_row("claim", difference, found, task) for difference in claim.differences)
  word = verdict.together([row.found.word for row in rows if row.kind == "claim"], held)
  why = claim.why(task.name, word)
  return Judged(paper.name, claim, task.name, word, rows, why, heads)


def collapsed(claim: Claim, found: Results) -> tuple[Collapsed, ...]:
  """The heads that collapsed in a claim's finished runs."""
  counts: dict[tuple[str, str], Counter[bool]] = {}
  for arm in arms_of(claim):
    for result in found(arm) or ():
      for head in result["collapsed"]:
        tally = counts.setdefault((arm, head["head"]), Counter())
        tally[head["until"] >= result["steps"]] += 1
  return tuple(Collapsed(*key, tally[True], tally[False]) for key, tally in counts.items())


def _judged(difference: Difference, found: Results) -> Judgement:
  left, right = _values(difference.left, found), _values(difference.right, found)
  return verdict.judge(left - right, difference.above, difference.within)


def _row(kind: str, difference: Difference, found: Results, task: Task) -> Row:
  left, right = (side(q, found, task) for q in (difference.left, difference.right))
  judged = _judged(difference, found)
  return Row(kind, left, right, difference.above, difference.within, judged)


def side(quantity: Quantity | float, found: Results, task: Task) -> Side:
  """A quantity over seeds, or a plain number, beside the paper's number."""
  if not isinstance(quantity, Quantity):
    return Side(f"{quantity:g} %", quantity, 0.0, None)
  values = _values(quantity, found)
  mean, spread = float(values.mean()), float(values.std(ddof=1))
  return Side(str(quantity), mean, spread, quantity.reported(task.name))


def _values(quantity: Quantity | float, found: Results) -> np.ndarray:
  """A quantity in percent: f64[seeds], or f64[] of a plain number."""
  if not isinstance(quantity, Quantity):
    return np.asarray(quantity, float)
  return numbers.values(quantity, found(quantity.arm) or [])
