"""What `kdjax reproduce --list` says: what claims and figures compare, where, and what it costs."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kdjax.reproduce import record, runs
from kdjax.reproduce.claims import (
  SIZES,
  Claim,
  Difference,
  Figure,
  Paper,
  Quantity,
  Table,
  arms_of,
)
from kdjax.reproduce.runs import Asked
from kdjax.reproduce.work import Chosen

WIDTH = 100  # columns
NOTE = (
  "A task is a config and settings; an arm changes a task by its own settings, ':NAME' runs the "
  "config's baseline. Differences are in points. Minutes are those of {} seeds, of runs that "
  "nothing else shares."
)


def text(chosen: Sequence[Chosen], seeds: int) -> str:
  """A block a paper, with the tasks and arms that are needed, and one a claim or figure.

  Args:
    chosen: what to list.
    seeds: over which minutes are counted.

  Returns:
    str, its last line ended.
  """
  blocks = []
  for paper, claims, figures in chosen:
    ones = (*claims, *figures)
    blocks += [_paper(paper, ones), *(_one(paper, one, seeds) for one in ones)]
  return "\n\n".join([*blocks, textwrap.fill(NOTE.format(seeds), WIDTH)]) + "\n"


def _paper(paper: Paper, ones: Sequence[Claim | Figure]) -> str:
  """Its title, and what the tasks and arms of some claims and figures are."""
  used = {name for one in ones for tasks in one.tasks.values() for name in tasks}
  tasks, arms = {}, {}
  for task in paper.tasks:
    if task.name in used:
      needs = [f"data {task.data}"] if task.data else []
      tasks[task.name] = ", ".join([task.config, *_settings(task.settings), *needs])
  for name in dict.fromkeys(arm for one in ones for arm in arms_of(one)):
    arm = paper.arms[name]
    there = [
      f"on {task}: {', '.join(_settings(settings))}"
      for task, settings in arm.by_task.items()
      if task in tasks
    ]
    words = [f":{arm.words}"] if arm.words else []
    arms[name] = ", ".join([*words, *_settings(arm.settings), *there])
  lines = [textwrap.fill(f"{paper.name}: {paper.title}", WIDTH)]
  for kind, found in (("task", tasks), ("arm", arms)):
    column = max(map(len, found))
    lines += [
      _line(f"{kind:4} {name:{column}}", words or "the task as it is")
      for name, words in found.items()
    ]
  return "\n".join(lines)


def _settings(settings: dict[str, Any]) -> list[str]:
  return [f"{key}={value}" for key, value in settings.items()]


def _one(paper: Paper, one: Claim | Figure, seeds: int) -> str:
  """A claim or figure: what it says, compares and needs."""
  name = f"{paper.name}.{one.name}"
  if isinstance(one, Claim):
    lines = [f"{name}: {one.where}", _line("says", one.says)]
    lines += [_line("claim", _difference(d)) for d in one.differences]
    lines += [_line("only if", f"{c.shows}: {_difference(c.difference)}") for c in one.controls]
  else:
    kind = "table" if isinstance(one, Table) else "figure"
    lines = [f"{name}: a {kind}", _line("shows", one.title), _line("arms", ", ".join(arms_of(one)))]
  costs = [_cost(paper, one, size, seeds) for size in SIZES if one.tasks.get(size)]
  return "\n".join([*lines, _line("minutes", "; ".join(costs))])


def _difference(one: Difference) -> str:
  """'[mhd, aux3] - [separate, main] > 10'."""
  right = str(one.right) if isinstance(one.right, Quantity) else f"{one.right:g} %"
  return f"[{one.left}] - [{right}] {record.effect(one.above, one.within)}"


def _cost(paper: Paper, one: Claim | Figure, size: str, seeds: int) -> str:
  """'small 63 (letter, cifar10)'."""
  minutes = runs.minutes(Asked(Path(), size, seeds, None), paper, [one])
  return f"{size} {minutes:,.0f} ({', '.join(one.tasks[size])})"


def _line(name: str, words: str) -> str:
  """A line that begins with a name, and goes on below the words."""
  start = f"  {name:7}  "
  return textwrap.fill(
    words,
    WIDTH,
    initial_indent=start,
    subsequent_indent=" " * len(start),
    break_long_words=False,
    break_on_hyphens=False,
  )
