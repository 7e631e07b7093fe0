"""The results as plain records: `results.json`, and the verdicts as text."""

import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kdjax.core import files
from kdjax.data import example_set
from kdjax.report import formats
from kdjax.reproduce import judging, runs
from kdjax.reproduce.claims import Costs, Lines, Paper, Table, Task, arms_of
from kdjax.reproduce.judging import Judged, Row, Side
from kdjax.reproduce.numbers import cost_of
from kdjax.reproduce.runs import Asked, Run
from kdjax.reproduce.verdict import NOT_RUN, VERDICTS
from kdjax.reproduce.work import Chosen
from kdjax.training import run_folder

FILE = "results.json"
NOTE = (
  "A difference is the first line minus the second in points, with its 95 % interval and the "
  "effect stated beforehand."
)
Record = dict[str, Any]


def collect(asked: Asked, chosen: Sequence[Chosen]) -> list[Record]:
  """Judges every claim on every task of the size asked for; returns plain records."""
  found = []
  for paper, claims, _ in chosen:
    results = {task.name: judging.results_of(asked, paper, task) for task in paper.tasks}
    for claim in claims:
      for task in runs.tasks(asked, paper, claim):
        judged = judging.judge(asked, paper, claim, task, results[task.name])
        made_by = made(runs.needed(asked, paper, task, arms_of(claim)))
        found.append(as_record(judged, asked.size) | {"made": made_by})
  return found


def tables(asked: Asked, chosen: Sequence[Chosen]) -> list[Record]:
  """Every table, and the numbers of figures, on every task whose runs have finished."""
  found = []
  for paper, _, figures in chosen:
    for figure in figures:
      if isinstance(figure, (Table, Lines, Costs)):
        for task in runs.tasks(asked, paper, figure):
          get = judging.results_of(asked, paper, task)
          if all(get(arm) is not None for arm in arms_of(figure)):
            head = {"name": f"{paper.name}.{figure.name}", "size": asked.size, "task": task.name}
            made_by = made(runs.needed(asked, paper, task, arms_of(figure)))
            found.append(head | _table(figure, task, get) | {"made": made_by})
  return found


def _table(figure: Table | Lines | Costs, task: Task, get: judging.Results) -> Record:
  """Title, columns and rows of a table or figure; `drawn`: the page draws it as a figure."""

  def cell(quantity):
    return quantity and judging.side(quantity, get, task)._asdict()

  def costs(q):
    return [cell(q), {"cost": float(np.mean([cost_of(figure.cost, r) for r in get(q.arm) or ()]))}]

  match figure:
    case Table():
      title, columns = figure.title, figure.columns
      rows = {label: [cell(q) for q in row] for label, row in figure.rows.items()}
    case Lines():
      title, columns = f"{figure.title}: {figure.ylabel}, by {figure.xlabel}", figure.x
      rows = {label: [cell(q) for q in line] for label, line in figure.series.items()}
      rows = {label: row + [None] * (len(figure.x) - len(row)) for label, row in rows.items()}
    case Costs():
      title, columns = figure.title, (figure.ylabel, figure.xlabel)
      rows = {label: costs(q) for label, q in figure.series.items()}
  drawn = {} if isinstance(figure, Table) else {"drawn": True}
  return {"title": title, "columns": list(columns), "rows": rows} | drawn


def as_record(judged: Judged, size: str) -> Record:
  """A judged claim in JSON's types."""
  return {
    "name": judged.name,
    "where": judged.claim.where,
    "says": judged.claim.says,
    "size": size,
    "task": judged.task,
    "verdict": judged.word,
    "note": judged.note,
    "rows": [_row(row) for row in judged.rows],
    "collapsed": [one._asdict() for one in judged.collapsed],
  }


def _row(row: Row) -> Record:
  side = lambda s: {"name": s.name, "mean": s.mean, "spread": s.spread, "paper": s.paper}
  sides: dict[str, Side] = {"left": row.left, "right": row.right}
  found = row.found._asdict()
  return {
    "kind": row.kind,
    **{name: side(s) for name, s in sides.items()},
    "above": row.above,
    "within": row.within,
    "word": found.pop("word"),
    **found,
  }


def made(done: Iterable[Run]) -> Record:
  """The commits, JAX versions and devices that made some runs; {} if no run exists."""
  paths = [run.point.folder / run_folder.CONFIG for run in done]
  read = [files.read_json(path) for path in paths if path.exists()]
  of = lambda get: ", ".join(sorted(set(map(get, read))))
  commit = of(lambda r: r["git"])
  jax = of(lambda r: r["versions"]["jax"])
  device = of(lambda r: r["device"])
  return {"commit": commit, "jax": jax, "device": device} if read else {}


def made_with(found: Sequence[Record]) -> str:
  """A sentence on the commits and devices that made the results; '' if there are none."""
  every = [r["made"] for r in found if r.get("made")]  # older tables do not have it
  of = lambda key: ", ".join(sorted({one for made in every for one in made[key].split(", ")}))
  return f"Commit {of('commit')}; jax {of('jax')}; {of('device')}." if every else ""


def write(path: Path, claims: Sequence[Record], tables: Sequence[Record]) -> Record:
  """Merges records into a file, see `merged`; returns all its records."""
  both = merged(path, claims, tables)
  path.parent.mkdir(parents=True, exist_ok=True)
  files.write_json(path, both)
  return both


def merged(path: Path, claims: Sequence[Record], tables: Sequence[Record]) -> Record:
  """A file's records, with new ones in place of those of the same name, size and task.

  A claim that was not run here never replaces a recorded verdict.
  """
  old = files.read_json(path) if path.exists() else {"claims": [], "tables": []}
  return {"claims": _over(old["claims"], claims), "tables": _over(old["tables"], tables)}


def key(one: Record) -> tuple[str, str, str]:
  """The identity of a record: name, size and task."""
  return one["name"], one["size"], one["task"]


def _over(old: Sequence[Record], new: Sequence[Record]) -> list[Record]:
  every = {key(record): record for record in old}
  for record in new:
    if key(record) not in every or record.get("verdict") != NOT_RUN:
      every[key(record)] = record
  return list(every.values())


def counts(found: Sequence[Record]) -> dict[str, int]:
  """The number of claims by verdict; a claim on two data sets counts twice."""
  tally = Counter(record["verdict"] for record in found)
  return {word: tally[word] for word in VERDICTS}


def difference(row: Record) -> str:
  """A difference, its interval and its effect in points: '+12.3 [10.1, 14.5] > 2'."""
  interval = f"[{row['low']:+.1f}, {row['high']:+.1f}]"
  return f"{row['mean']:+.1f} {interval} {effect(row['above'], row['within'])}"


def effect(above: float, within: bool) -> str:
  """An effect in words: '> 2', or 'within ±2'."""
  return f"within ±{above:g}" if within else f"> {above:g}"


def side(one: Record) -> str:
  """A side of a difference in words: 'fedavg, main: 95.7 ± 1.1 (paper 70.5)'."""
  return one["name"] if one["name"].endswith("%") else f"{one['name']}: {cell(one)}"


def cell(one: Record | None) -> str:
  """A cell of a table: '71.1 ± 1.7 (paper 54.5)'."""
  if one is None:
    return "-"
  if "cost" in one:
    return f"{one['cost']:.3g}"
  paper = f" (paper {one['paper']:g})" if one["paper"] is not None else ""
  return f"{one['mean']:.1f} ± {one['spread']:.1f}{paper}"


def table_cells(one: Record) -> tuple[list[str], list[list[str]]]:
  """(header, text cells) of a table's record."""
  rows = [[label, *map(cell, row)] for label, row in one["rows"].items()]
  return ["", *one["columns"]], rows


def collapsed(one: Record) -> str:
  """A sentence on the heads of a claim's runs that collapsed; '' if none did."""
  words = []
  for head in one.get("collapsed", ()):  # older records do not have it
    counts = {"to the end": head["to_the_end"], "for a while": head["for_a_while"]}
    how = ", ".join(f"{n} {word}" for word, n in counts.items() if n)
    words.append(f"{head['arm']}, {head['head']}: {how}")
  if not words:
    return ""
  text = "Heads that predicted one class for everything, of all clients and seeds"
  return f"{text}: {'; '.join(words)}."


def held_out(paper: Paper, tasks: Iterable[str]) -> str:
  """A sentence on a paper's tasks that test on held-out training images; '' if none does."""
  names = set(tasks)
  tested = {t.name: example_set.held_out(t.settings.get("holdout", 0))[1] for t in paper.tasks}
  held = {name: n for name, n in tested.items() if n and name in names}
  if not held:
    return ""
  words = ", ".join(f"{name} ({n:,})" for name, n in held.items())
  return f"Tested on training images held out, not on the test set: {words}."


def text(found: Sequence[Record], width: int) -> str:
  """The verdicts for a terminal: a block for each claim on a task, then their numbers.

  Args:
    found: records of claims.
    width: the most columns of text, but for a single long word.

  Returns:
    The text; its last line ends with a newline.
  """
  if not found:
    return "No claim of what was asked for is declared at this size.\n"
  blocks = []
  for one in found:
    lines = [f"{one['name']} on {one['task']}: {one['verdict']}"]
    for row in one["rows"]:
      kind, first = ("claim", []) if row["kind"] == "claim" else ("only if", [row["kind"]])
      words = [*first, side(row["left"]), side(row["right"])]
      words.append(f"difference {difference(row)}: {row['word']}")
      lines += [formats.named_line(kind if i == 0 else "", w, width) for i, w in enumerate(words)]
    if one["verdict"] == NOT_RUN:
      lines.append(formats.named_line("why", one["note"], width))
    blocks.append("\n".join(lines))
  tally = ", ".join(f"{n} {word}" for word, n in counts(found).items() if n)
  return "\n\n".join([*blocks, textwrap.fill(NOTE, width), tally or "none judged"]) + "\n"
