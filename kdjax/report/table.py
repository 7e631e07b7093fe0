"""The closing table: what a run and the baselines in its folder reached, side by side."""

import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich import box, filesize
from rich.console import Console
from rich.table import Table

from kdjax.core import files
from kdjax.training import writer

WIDTH = 80  # columns of text, whatever the terminal
COLUMNS = ("run", "head", "private %", "shared %", "ensemble %", "bytes sent")


class RunRecord(NamedTuple):
  """A run folder as read back."""

  name: str  # the algorithm, or the folder's name for a baseline
  record: dict  # config.json
  metrics: list[dict]  # metrics.jsonl
  summary: dict | None  # summary.json; None: the run has not finished


class TableRow(NamedTuple):
  """One line of the table, as text."""

  run: str
  head: str
  private: str
  shared: str
  ensemble: str
  sent: str


def read_runs(workdir):
  """The run in WORKDIR, then every baseline WORKDIR/NAME that has a summary.json, by name."""
  own = _read_run(Path(workdir))
  algorithm = (own.summary or own.record.get("config", {})).get("algorithm", own.name)
  beside = sorted(path.parent for path in Path(workdir).glob("*/summary.json"))
  return [own._replace(name=algorithm), *map(_read_run, beside)]


def _read_run(folder):
  record, summary = (
    files.read_json(folder / name) if (folder / name).exists() else None
    for name in ("config.json", "summary.json")
  )
  return RunRecord(folder.resolve().name, record or {}, writer.read_metrics(folder), summary)


def runs(summary):
  """The results of each replica: `summary['runs']`, or the summary itself where there is one."""
  return summary.get("runs", [summary])


def accuracies(run, key):
  """Mean accuracy per head and its spread over clients.

  Args:
    run: a `Run`.
    key: 'private_accuracy', 'shared_accuracy' or 'ensemble_accuracy'.

  Returns:
    {head: (mean, spread)}, fractions. Over all clients of all replicas in the summary, the spread
    their standard deviation (None where there is one number alone); of an unfinished run, what the
    last evaluation in metrics.jsonl says.
  """
  if run.summary is None:
    last = {head: points[-1, 1:] for head, points in curves(run.metrics, key).items()}
    return {h: (mean, None if np.isnan(spread) else spread) for h, (mean, spread) in last.items()}
  found = {}
  for result in runs(run.summary):
    for head, numbers in result.get(key, {}).items():
      found.setdefault(head, []).extend(np.array(numbers, float).ravel())
  return {
    head: (np.mean(numbers), np.std(numbers) if len(numbers) > 1 else None)
    for head, numbers in found.items()
  }


def curves(metrics, key):
  """{head: f64[points, 3] of (step, mean, spread)} of one accuracy over all evaluations.

  The spread is NaN where there is none.
  """
  found = {}
  for line in metrics:
    for name, value in line.items():
      head = name.removeprefix(f"{key}/")
      if line["phase"] == "eval" and head != name and not head.endswith("/std"):
        point = line["step"], value, line.get(f"{name}/std", np.nan)
        found.setdefault(head, []).append(point)
  return {head: np.array(points, float) for head, points in found.items()}


def heads(run):
  """Names of all heads and entries of a run: the summary's `heads`, then what was measured."""
  keys = ("private_accuracy", "shared_accuracy", "ensemble_accuracy")
  measured = [head for key in keys for head in (*accuracies(run, key), *curves(run.metrics, key))]
  own = [head for head in (run.summary or {}).get("heads", []) if head in measured]
  return list(dict.fromkeys([*own, *measured]))


def percent(mean, spread=None):
  """A fraction in percent with one decimal: '91.2', or '91.2 ± 0.4' with a spread."""
  return f"{100 * mean:.1f}" + ("" if spread is None else f" ± {100 * spread:.1f}")


def clients(run):
  """(clients K of one replica, replicas R) of a finished run."""
  results = runs(run.summary)
  return len(results[0]["label_counts"]), len(results)


def one_model(group):
  """What the ± of entries means that are one model a seed, not one a client; '' without any."""
  names, replicas = [], 1
  for run in group:
    if run.summary is not None:
      count, replicas = clients(run)
      shared = runs(run.summary)[0].get("shared_accuracy", {})
      names += [head for head, numbers in shared.items() if np.size(numbers) < count]
  over = f" a seed, over {replicas} seeds" if replicas > 1 else ""
  return f"{', '.join(dict.fromkeys(names))}: one model{over}" if names else ""


def rows(group):
  """The table's rows for the finished ones of `read_runs`: a row a head, the run's own first."""
  lines = []
  for run in group:
    if run.summary is None:
      continue
    private, shared = accuracies(run, "private_accuracy"), accuracies(run, "shared_accuracy")
    ensemble = accuracies(run, "ensemble_accuracy")
    sent = filesize.decimal(sum(run.summary.get("bytes_sent", {}).values()))
    for i, head in enumerate(heads(run)):
      texts = (percent(*table[head]) if head in table else "" for table in (private, shared))
      mean = percent(ensemble[head][0]) if head in ensemble else ""
      lines.append(TableRow(run.name if i == 0 else "", head, *texts, mean, sent if i == 0 else ""))
  return lines


def caption(group):
  """What the columns and the ± of the table mean, in words."""
  own = next(run for run in group if run.summary is not None)
  count, replicas = clients(own)
  who = f"{count} clients" + (f" of each of {replicas} seeds, pooled" if replicas > 1 else "")
  total = ", all seeds together" if replicas > 1 else ""
  single = one_model(group)
  return (
    f"Test accuracy, mean ± standard deviation over the {who}{single and f' ({single})'}. private: "
    "on the client's own label distribution; shared: every class alike; ensemble: the clients' "
    f"averaged predictions. bytes sent: over the whole run, every receiver counted{total}."
  )


def closing_table(workdir):
  """The closing table of a run folder as plain text, at most 80 columns wide.

  Args:
    workdir: a run folder; its baselines are the folders WORKDIR/NAME with a summary.json.

  Returns:
    str; empty where no run has finished.
  """
  group = read_runs(workdir)
  lines = rows(group)
  if not lines:
    return ""
  table = Table(box=box.SIMPLE_HEAD, caption=caption(group), caption_justify="left")
  for name in COLUMNS:
    table.add_column(name, justify="left" if name in ("run", "head") else "right", overflow="fold")
  for i, line in enumerate(lines):
    table.add_row(*line, end_section=i + 1 < len(lines) and lines[i + 1].run != "")
  console = Console(file=io.StringIO(), width=WIDTH, markup=False, color_system=None)
  console.print(table)
  return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines()) + "\n"
