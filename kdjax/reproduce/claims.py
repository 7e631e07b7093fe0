"""The declaration of a paper's claims: tasks, arms, quantities, and what must hold for them.

A claim is judged by differences between two quantities, paired over seeds, against an effect that
is stated beforehand. It is judged only if its controls hold, which show that the task needs what
the claim is about.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from kdjax.reproduce.verdict import NOT_TESTABLE

SIZES = ("tiny", "small", "gpu", "paper")  # runs of minutes; of hours; on a GPU; as published
LAST_HEAD = "last"  # the head of a Quantity that is aux3 if clients have three, aux4 if four


class Task(NamedTuple):
  """The data set, split and clients that all arms of a comparison share."""

  name: str  # a folder's name
  config: str  # an experiment's name, with its words: 'mhd_digits'
  minutes: float  # of an arm with six seeds, on two CPU cores, or on a GPU at size gpu or paper
  settings: dict[str, Any] = {}  # dotted config key: value, over the config's
  data: str = ""  # the data set needed in --data, a key of `data_sets.FORMS`; '': none


class Arm(NamedTuple):
  """One way of training, as changes of the task's config."""

  settings: dict[str, Any] = {}  # dotted config key: value
  words: str = ""  # after the config's name: a baseline, 'fedavg', 'separate'
  by_task: dict[str, dict[str, Any]] = {}  # task: further changes, over `settings`

  def on(self, task: str) -> dict[str, Any]:
    """The settings on the task of that name."""
    return self.settings | self.by_task.get(task, {})


def alone(tasks: Iterable[Task]) -> dict[str, dict[str, Any]]:
  """`Arm.by_task` of the words 'supervised': one client with all data and the first network.

  A task's settings come after the words, so its own `clients` would make it several clients again.
  """
  found = {}
  for task in tasks:
    if "clients" in task.settings:
      (_, *network), *_ = task.settings["clients"]
      found[task.name] = {"clients": ((1, *network),)}
  return found


class Quantity(NamedTuple):
  """A number of an arm per seed: the mean over clients of an entry of summary.json."""

  arm: str
  head: str = "main"  # a head or an entry, 'core/main'; LAST_HEAD: the run's last one
  metric: str = "shared_accuracy"
  clients: tuple[int, ...] = ()  # the clients that count; (): all
  distance: int | None = None  # with accuracy_by_distance: hops from student to teacher
  spread: bool = False  # the sample deviation over clients in place of their mean
  # The paper's number in percent: of its own setting, shown beside every task; or by task.
  paper: float | Mapping[str, float] | None = None

  def reported(self, task: str) -> float | None:
    """The paper's number beside the task of that name; None if there is none."""
    return self.paper.get(task) if isinstance(self.paper, Mapping) else self.paper

  def __str__(self) -> str:
    """The quantity in words for tables: 'fedavg, main'."""
    words = [self.arm, self.head] + ([] if self.metric == "shared_accuracy" else [self.metric])
    words += [f"distance {self.distance}"] if self.distance is not None else []
    noun = "client" if len(self.clients) == 1 else "clients"
    words += [f"{noun} {' and '.join(map(str, self.clients))}"] if self.clients else []
    words += ["spread over clients"] if self.spread else []
    return ", ".join(word.replace("_", " ") for word in words)


class Difference(NamedTuple):
  """A condition: left - right > above, in points; within: -above < left - right < above."""

  left: Quantity
  right: Quantity | float  # a number is in percent, such as chance
  above: float  # points; a negative bound means not worse by more than that
  within: bool = False


def above(left: Quantity, right: Quantity | float, by: float) -> Difference:
  """left - right > by, in points."""
  return Difference(left, right, above=by)


class Control(NamedTuple):
  """A difference that must hold for a task to say anything about a claim."""

  shows: str  # the meaning of the difference in words: 'the task needs an exchange'
  difference: Difference
  unmet: dict[str, str] = {}  # task: why the control does not hold there


class Claim(NamedTuple):
  """One sentence of a paper, and its meaning in numbers."""

  name: str
  where: str  # 'Table 1, Fig. 4'
  says: str  # the claim, in one sentence
  tasks: dict[str, tuple[str, ...]]  # size: names of tasks
  differences: tuple[Difference, ...]  # all must hold
  controls: tuple[Control, ...]
  explained: dict[tuple[str, str], str] = {}  # (task, verdict): why that is the verdict there

  def why(self, task: str, word: str) -> str:
    """Why that is the verdict on a task, by the claim's own words or a control's; '' if unknown."""
    unmet = [c.unmet[task] for c in self.controls if word == NOT_TESTABLE and task in c.unmet]
    return self.explained.get((task, word), "".join(unmet[:1]))


def explained(
  claims: Iterable[Claim], why: Mapping[str, dict[tuple[str, str], str]]
) -> tuple[Claim, ...]:
  """Claims with the reasons for their verdicts, given by name, task and verdict."""
  return tuple(claim._replace(explained=why.get(claim.name, {})) for claim in claims)


class Lines(NamedTuple):
  """A figure: quantities over a common x axis, one line for each series."""

  name: str
  title: str  # with the paper's figure: 'Heads (Fig. 4)'
  x: tuple[str, ...]  # labels
  xlabel: str
  ylabel: str
  series: dict[str, tuple[Quantity, ...]]  # label: a quantity for each x
  tasks: dict[str, tuple[str, ...]]  # size: names of tasks


class Curves(NamedTuple):
  """A figure: logged numbers over a run, mean and spread over seeds."""

  name: str
  title: str
  ylabel: str
  series: dict[str, tuple[str, str]]  # label: (arm, key of metrics.jsonl)
  tasks: dict[str, tuple[str, ...]]


class Matrices(NamedTuple):
  """A figure: matrices of summary.json beside each other, means over seeds and clients."""

  name: str
  title: str
  entries: dict[str, tuple[str, str, str]]  # label: (arm, key of summary.json, its entry)
  tasks: dict[str, tuple[str, ...]]
  clients: tuple[int, ...] = ()  # the clients whose [C, C] matrices count; (): all


class Costs(NamedTuple):
  """A figure: a quantity of each arm against the cost of its run, one point per arm."""

  name: str
  title: str
  cost: str  # 'bytes_sent', per seed over all kinds; or a number of summary.json, 'flops.edge'
  xlabel: str
  ylabel: str
  series: dict[str, Quantity]
  tasks: dict[str, tuple[str, ...]]


class Table(NamedTuple):
  """A table: quantities of arms, ours beside the paper's."""

  name: str
  title: str  # with the paper's table: 'Shared accuracy (Table 1)'
  columns: tuple[str, ...]
  rows: dict[str, tuple[Quantity | None, ...]]  # label: a quantity, or None, for each column
  tasks: dict[str, tuple[str, ...]]


Figure = Lines | Curves | Matrices | Costs | Table


class Paper(NamedTuple):
  """The declaration of a paper: tasks, arms, claims and figures."""

  name: str
  title: str  # authors, title, year, address
  tasks: tuple[Task, ...]
  arms: dict[str, Arm]
  claims: tuple[Claim, ...]
  figures: tuple[Figure, ...] = ()

  def task(self, name: str) -> Task:
    """The task of that name."""
    return next(task for task in self.tasks if task.name == name)


def quantities(difference: Difference) -> list[Quantity]:
  """The one or two quantities of a difference."""
  sides = (difference.left, difference.right)
  return [side for side in sides if isinstance(side, Quantity)]


def quantities_of(found: Claim | Figure) -> list[Quantity]:
  """The quantities of a claim, those of its controls first, or of a figure."""
  match found:
    case Claim():
      every = (*(control.difference for control in found.controls), *found.differences)
      return [q for difference in every for q in quantities(difference)]
    case Lines():
      return [q for line in found.series.values() for q in line]
    case Costs():
      return list(found.series.values())
    case Table():
      return [q for row in found.rows.values() for q in row if q]
  return []


def arms_of(found: Claim | Figure) -> list[str]:
  """The arms that a claim or a figure needs, those of its controls first."""
  match found:
    case Curves():
      names = [arm for arm, _ in found.series.values()]
    case Matrices():
      names = [arm for arm, *_ in found.entries.values()]
    case _:
      names = [q.arm for q in quantities_of(found)]
  return list(dict.fromkeys(names))


def problems(paper: Paper) -> list[str]:
  """The errors of a declaration, in words; none if it can be run and judged."""
  found = []
  declared = (*paper.claims, *paper.figures)
  names = [item.name for item in declared]
  found += [
    f"{name} is declared twice" for name in sorted({n for n in names if names.count(n) > 1})
  ]
  known = {task.name for task in paper.tasks}
  for name, arm in paper.arms.items():
    found += [f"arm {name}: no task {task!r}" for task in sorted(set(arm.by_task) - known)]
  for item in declared:
    found += [f"{item.name}: no arm {arm!r}" for arm in arms_of(item) if arm not in paper.arms]
    found += [f"{item.name}: no size {size!r}" for size in item.tasks if size not in SIZES]
    named = {task for tasks in item.tasks.values() for task in tasks}
    reports = [q.paper for q in quantities_of(item) if isinstance(q.paper, Mapping)]
    named |= {task for report in reports for task in report}
    found += [f"{item.name}: no task {task!r}" for task in sorted(named - known)]
  for figure in paper.figures:
    rows = figure.rows.values() if isinstance(figure, Table) else ()
    if isinstance(figure, Table) and any(len(row) != len(figure.columns) for row in rows):
      found.append(f"{figure.name}: each row has a quantity, or None, for each column")
  for claim in paper.claims:
    if not claim.controls:
      found.append(f"{claim.name}: no control, so it could not fail")
    if not claim.differences:
      found.append(f"{claim.name}: no difference to judge")
    every = [*claim.differences, *(c.difference for c in claim.controls)]
    if any(not math.isfinite(d.above) or (d.within and d.above <= 0) for d in every):
      found.append(f"{claim.name}: an effect must be finite, and above 0 with `within`")
  return found
