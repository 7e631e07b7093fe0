"""Claims judged on tasks: controls first, then what they allow to be judged."""

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
  """A difference as it came out."""

  kind: str  # 'claim', or what a control shows
  left: Side
  right: Side
  above: float
  within: bool
  found: Judgement


class Collapsed(NamedTuple):
  """Heads of an arm that said one class for everything, counted over clients and seeds."""

  arm: str
  head: str
  to_the_end: int
  for_a_while: int


class Judged(NamedTuple):
  """A claim on a task."""

  paper: str
  claim: Claim
  task: str
  word: str
  rows: tuple[Row, ...]  # controls first
  note: str  # why it was not run; why it came out so
  collapsed: tuple[Collapsed, ...]  # of the arms that have run

  @property
  def name(self) -> str:
    """'mhd.heads'."""
    return f"{self.paper}.{self.claim.name}"


Results = Callable[[str], list[dict[str, Any]] | None]  # of an arm, None: not finished


def results_of(asked: Asked, paper: Paper, task: Task) -> Results:
  """How to get an arm's results of every seed; read once."""
  read: dict[str, list[dict[str, Any]] | None] = {}

  def get(arm):
    if arm not in read:
      read[arm] = numbers.results(runs(asked, paper, task, arm))
    return read[arm]

  return get


def have(found: Results, differences: tuple[Difference, ...]) -> bool:
  """Whether all runs of some differences have finished."""
  return all(found(q.arm) is not None for d in differences for q in quantities(d))


def controls_hold(claim: Claim, found: Results) -> bool | None:
  """Whether what a claim needs is so; None: its controls have not run."""
  if not have(found, tuple(c.difference for c in claim.controls)):
    return None
  return all(_judged(c.difference, found).word == verdict.CONFIRMED for c in claim.controls)


def judge(
  asked: Asked, paper: Paper, claim: Claim, task: Task, found: Results | None = None
) -> Judged:
  """The verdict on a claim by one task's finished runs.

  Args:
    asked: what is asked for.
    paper, claim, task: the claim of a paper, on one of its tasks.
    found: `results_of` the task, where it has been read; None: it is read now.

  Raises:
    ConfigError: where a run measured no such thing as the claim is about.
  """
  found = found or results_of(asked, paper, task)
  here = runs(asked, paper, task, next(iter(paper.arms)))
  if isinstance(here, NotHere):
    return Judged(paper.name, claim, task.name, NOT_RUN, (), here.why, ())
  if controls_hold(claim, found) is None:
    return Judged(paper.name, claim, task.name, NOT_RUN, (), "its controls have not run", ())
  fell = collapsed(claim, found)
  rows = tuple(_row(control.shows, control.difference, found, task) for control in claim.controls)
  held = [row.found.word for row in rows]
  if all(word == verdict.CONFIRMED for word in held):
    if not have(found, claim.differences):
      return Judged(paper.name, claim, task.name, NOT_RUN, rows, "has not run to its end", fell)
    rows += tuple(_row("claim", difference, found, task) for difference in claim.differences)
  word = verdict.together([row.found.word for row in rows if row.kind == "claim"], held)
  why = claim.why(task.name, word)
  return Judged(paper.name, claim, task.name, word, rows, why, fell)


def collapsed(claim: Claim, found: Results) -> tuple[Collapsed, ...]:
  """The heads that collapsed in a claim's runs, as far as they have finished."""
  counts: dict[tuple[str, str], Counter[bool]] = {}
  for arm in arms_of(claim):
    for result in found(arm) or ():
      for one in result["collapsed"]:
        tally = counts.setdefault((arm, one["head"]), Counter())
        tally[one["until"] >= result["steps"]] += 1
  return tuple(Collapsed(*key, tally[True], tally[False]) for key, tally in counts.items())


def _judged(difference: Difference, found: Results) -> Judgement:
  left, right = _values(difference.left, found), _values(difference.right, found)
  return verdict.judge(left - right, difference.above, difference.within)


def _row(kind: str, difference: Difference, found: Results, task: Task) -> Row:
  left, right = (side(one, found, task) for one in (difference.left, difference.right))
  judged = _judged(difference, found)
  return Row(kind, left, right, difference.above, difference.within, judged)


def side(one: Quantity | float, found: Results, task: Task) -> Side:
  """A quantity over seeds, or a number as it stands, beside what the paper reports."""
  if not isinstance(one, Quantity):
    return Side(f"{one:g} %", one, 0.0, None)
  values = _values(one, found)
  return Side(str(one), float(values.mean()), float(values.std(ddof=1)), one.reported(task.name))


def _values(side: Quantity | float, found: Results) -> np.ndarray:
  """f64[seeds] or f64[]: percent."""
  if not isinstance(side, Quantity):
    return np.asarray(side, float)
  return numbers.values(side, found(side.arm) or [])
