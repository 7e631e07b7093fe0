"""All tables of a run over its seeds: `kdjax compare RUN --full`.

Every number is one seed's mean over its clients. Mean, standard deviation and extremes are over
seeds. The difference to each baseline in WORKDIR/NAME is paired by seed.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kdjax.report import table
from kdjax.report.formats import markdown
from kdjax.report.table import RunRecord


def spread(values: np.ndarray) -> str:
  """'mean ± sd (lowest .. highest)' in percent of f64[R] over seeds; '-' if any is NaN."""
  if np.isnan(values).any():
    return "-"
  low, high = 100 * values.min(), 100 * values.max()
  return f"{table.percent(*table.mean_and_spread(values))} ({low:.1f} .. {high:.1f})"


def by_distance(run: RunRecord) -> dict[tuple[str, str], np.ndarray]:
  """{(head, distance): f64[R]}: accuracy on the labels of clients at a graph distance."""
  results = table.results(run)
  return {
    (head, d): np.array([r["accuracy_by_distance"][head][d] for r in results], float)
    for head, at in results[0].get("accuracy_by_distance", {}).items()
    for d in at
  }


def accuracy_table(group: Sequence[RunRecord]) -> str:
  """Private and shared accuracy of every head of every run, over seeds."""
  rows = []
  for run in group:
    results = table.results(run)
    private, shared = (table.over_clients(results, f"{k}_accuracy") for k in ("private", "shared"))
    own = {head: spread(values) for head, values in private.items()}
    rows += [[run.name, h, own.get(h, "-"), spread(values)] for h, values in shared.items()]
  return markdown(["method", "head", "private %", "shared %"], rows) if rows else ""


def difference_table(group: Sequence[RunRecord]) -> str:
  """Shared accuracy of the run's heads minus that of each baseline, paired by seed."""
  own, *others = group
  shared = table.over_clients(table.results(own), "shared_accuracy")
  rows = []
  for other in others:
    found = table.over_clients(table.results(other), "shared_accuracy")
    if not found:
      continue
    base = found.get("main", next(iter(found.values())))
    rows += [[f"{head} - {other.name}", spread(value - base)] for head, value in shared.items()]
  return markdown(["shared accuracy", "points"], rows) if rows else ""


def distance_table(run: RunRecord) -> str:
  """Accuracy by head and graph distance, over seeds."""
  found = by_distance(run)
  distances = list(dict.fromkeys(d for _, d in found))
  rows = [
    [head, *(spread(found[head, d]) for d in distances)]
    for head in dict.fromkeys(h for h, _ in found)
  ]
  return markdown(["head", *(f"distance {d}" for d in distances)], rows) if rows else ""


def cost_table(group: Sequence[RunRecord]) -> str:
  """The bytes that every run sent, and its private examples per client through a model."""
  rows = []
  for run in group:
    results = table.results(run)
    sent = sum((run.summary or {})["bytes_sent"].values()) / len(results)
    examples = np.mean([r["private_examples"] for r in results])
    rows.append([run.name, f"{sent / 1e6:.2f}", f"{examples:,.0f}"])
  return markdown(["method", "MB sent per seed", "private examples per client"], rows)


def client_table(group: Sequence[RunRecord]) -> str:
  """Local, remote and combined accuracy of every honest client of every run, over seeds."""
  kinds, rows = ("local", "remote", "combined"), []
  for run in group:
    results = table.results(run)
    found = {
      kind: np.array([r[f"{kind}_accuracy"]["main"] for r in results], float)  # [R, K]
      for kind in kinds
      if f"{kind}_accuracy" in results[0]
    }
    honest = [k for k in range(len(results[0]["label_counts"])) if k not in table.liars(run)]
    for i, k in enumerate(honest if "combined" in found else ()):
      cells = (spread(found[kind][:, i]) if kind in found else "-" for kind in kinds)
      rows.append([run.name, str(k), *cells])
  return markdown(["method", "client", *(f"{kind} %" for kind in kinds)], rows) if rows else ""


def round_table(run: RunRecord) -> str:
  """The core, its teacher, their consensus and the watch by round, means over seeds.

  Numbers that were not measured have no column.
  """
  names = {
    "core": "overlap_test/student",
    "teacher": "overlap_test/teacher",
    "consensus": "overlap_test/consensus",
    "core on the edge's data": "overlap_edge/student",
    "training accuracy": "train_accuracy",
    "flagged": "flag",
  }
  steps: dict[int, dict] = {}
  for line in run.metrics:
    steps.setdefault(line["step"], {}).update(line)
  rounds = [line for line in steps.values() if "flag" in line]  # the watch ends each round
  names = {name: key for name, key in names.items() if any(key in line for line in rounds)}
  cell = lambda value: "-" if value is None else table.percent(value)
  rows = [
    [str(number), *(cell(line.get(key)) for key in names.values())]
    for number, line in enumerate(rounds, 1)
  ]
  return markdown(["round", *names], rows) if rows else ""


def report(workdir: str | Path) -> str:
  """All tables of a run folder, as markdown.

  Raises:
    ConfigError: if the folder's own run has not finished, whatever its baselines.
  """
  group = table.read_runs(workdir)
  if group[0].summary is None or not group[0].record:
    raise table.not_finished(workdir)
  parts = [accuracy_table(group), difference_table(group), distance_table(group[0])]
  parts += [client_table(group), round_table(group[0]), cost_table(group)]
  seconds = {run.name: round(run.summary["wall_seconds"]) for run in group if run.summary}
  seeds = [r.get("seed") for r in table.results(group[0])]
  record = group[0].record
  facts = f"seeds {seeds}; seconds {seconds}; commit {record['git']}; jax "
  facts += f"{record['versions']['jax']}; {record['device']}"
  return "\n\n".join([*filter(None, parts), facts])
