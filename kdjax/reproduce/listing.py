"""The text of `kdjax reproduce --list`: claims and figures, with their tasks, arms and costs."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kdjax.report.formats import named_line
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

NOTE = (
  "A task is a config and settings; an arm changes a task by its own settings, ':NAME' runs the "
  "config's baseline. Differences are in points. Minutes are those of {} seeds, of runs that "
  "nothing else shares."
)


def text(chosen: Sequence[Chosen], seeds: int, width: int) -> str:
  """A block per paper, with the tasks and arms needed, and a block per claim or figure.

  Args:
    chosen: the papers, claims and figures to list.
    seeds: the number of seeds that the minutes count.
    width: the most columns of text, but for a single long word.

  Returns:
    The text; its last line ends with a newline.
  """
  blocks = []
  for paper, claims, figures in chosen:
    items = (*claims, *figures)
    blocks.append(_paper(paper, items, width))
    blocks += [_item(paper, item, seeds, width) for item in items]
  return "\n\n".join([*blocks, textwrap.fill(NOTE.format(seeds), width)]) + "\n"


def _paper(paper: Paper, items: Sequence[Claim | Figure], width: int) -> str:
  """A paper's title, and the tasks and arms of some of its claims and figures."""
  used = {name for item in items for tasks in item.tasks.values() for name in tasks}
  tasks = {}
  arms = {}
  for task in paper.tasks:
    if task.name in used:
      needs = [f"data {task.data}"] if task.data else []
      tasks[task.name] = ", ".join([task.config, *_settings(task.settings), *needs])
  for name in dict.fromkeys(arm for item in items for arm in arms_of(item)):
    arm = paper.arms[name]
    by_task = [
      f"on {task}: {', '.join(_settings(settings))}"
      for task, settings in arm.by_task.items()
      if task in tasks
    ]
    words = [f":{arm.words}"] if arm.words else []
    arms[name] = ", ".join([*words, *_settings(arm.settings), *by_task])
  lines = [textwrap.fill(f"{paper.name}: {paper.title}", width)]
  for kind, found in (("task", tasks), ("arm", arms)):
    column = max(map(len, found))
    lines += [
      named_line(f"{kind:4} {name:{column}}", words or "the task as it is", width)
      for name, words in found.items()
    ]
  return "\n".join(lines)


def _settings(settings: dict[str, Any]) -> list[str]:
  return [f"{key}={value}" for key, value in settings.items()]


def _item(paper: Paper, item: Claim | Figure, seeds: int, width: int) -> str:
  """A claim or figure: its sentence or title, its differences or arms, and its costs."""
  name = f"{paper.name}.{item.name}"
  if isinstance(item, Claim):
    first = f"{name}: {item.where}"
    lines = [("says", item.says)]
    lines += [("claim", _difference(d)) for d in item.differences]
    lines += [("only if", f"{c.shows}: {_difference(c.difference)}") for c in item.controls]
  else:
    first = f"{name}: a {'table' if isinstance(item, Table) else 'figure'}"
    lines = [("shows", item.title), ("arms", ", ".join(arms_of(item)))]
  costs = [_cost(paper, item, size, seeds) for size in SIZES if item.tasks.get(size)]
  lines.append(("minutes", "; ".join(costs)))
  return "\n".join([first, *(named_line(word, words, width) for word, words in lines)])


def _difference(difference: Difference) -> str:
  """A difference in words: '[mhd, aux3] - [separate, main] > 10'."""
  right = difference.right
  words = str(right) if isinstance(right, Quantity) else f"{right:g} %"
  return f"[{difference.left}] - [{words}] {record.effect(difference.above, difference.within)}"


def _cost(paper: Paper, item: Claim | Figure, size: str, seeds: int) -> str:
  """The minutes and tasks at a size: 'small 63 (letter, cifar10)'."""
  minutes = runs.minutes(Asked(Path(), size, seeds, None), paper, [item])
  return f"{size} {minutes:,.0f} ({', '.join(item.tasks[size])})"
