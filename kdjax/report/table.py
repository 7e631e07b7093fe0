"""Reads the records of runs, and makes the closing table of a run and its baselines."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kdjax.core import files, metrics
from kdjax.report import formats, troubles
from kdjax.training import run_folder, writer
from kdjax.types import ConfigError

WIDTH = 80  # columns of text on any terminal
COLUMNS = ("run", "head", "private %", "shared %", "ensemble %", "bytes sent")
Spread = tuple[float, float | None]  # a mean, and a standard deviation if there is one


class RunRecord(NamedTuple):
  """The contents of a run folder."""

  name: str  # the method, or the folder's name for a baseline
  folder: Path
  record: dict[str, Any]  # config.json
  metrics: list[dict[str, Any]]  # metrics.jsonl
  summary: dict[str, Any] | None  # summary.json; None: the run has not finished


class TableRow(NamedTuple):
  """One line of the closing table, as text."""

  run: str
  head: str
  private: str
  shared: str
  ensemble: str
  sent: str


def read_runs(workdir: str | Path) -> list[RunRecord]:
  """Reads the run in WORKDIR, then every baseline WORKDIR/NAME with a summary.json, by name."""
  own = _read_run(Path(workdir))
  baselines = sorted(path.parent for path in Path(workdir).glob(f"*/{run_folder.SUMMARY}"))
  if not (own.folder.parent / run_folder.CONFIG).exists():  # otherwise it is a baseline itself
    own = own._replace(name=_method(own) or own.name)
  return [own, *map(_read_run, baselines)]


def not_finished(place: str | Path) -> ConfigError:
  """The error for a folder without a finished run."""
  hint = "holds no finished run: it needs summary.json and config.json"
  return ConfigError("RUN", str(place), hint)


def _method(run: RunRecord) -> str:
  """The method's short name: 'fedprox' of 'my_package.fedprox:METHOD'."""
  method = (run.summary or run.record.get("config", {})).get("algorithm", "")
  return method.partition(":")[0].rpartition(".")[2]


def _read_run(folder: Path) -> RunRecord:
  record, summary = (
    files.read_json(folder / name) if (folder / name).exists() else None
    for name in (run_folder.CONFIG, run_folder.SUMMARY)
  )
  folder = folder.resolve()
  return RunRecord(folder.name, folder, record or {}, writer.read_metrics(folder), summary)


def results(run: RunRecord) -> list[dict[str, Any]]:
  """The summary's results of each replica; none if the run has not finished.

  Heads that were never trained and the accuracies of hostile clients are left out.
  """
  if run.summary is None:
    return []
  idle = untaught(run)
  replicas = [_honest(run, result) for result in run.summary.get("runs", [run.summary])]
  kept = lambda value: {name: v for name, v in value.items() if name not in idle}
  return [{k: kept(v) if isinstance(v, dict) else v for k, v in r.items()} for r in replicas]


def liars(run: RunRecord) -> list[int]:
  """The hostile clients of each replica of a run (`config.hostile`)."""
  hostile = run.record.get("config", {}).get("hostile", {"kind": "none"})
  return [] if hostile["kind"] == "none" else hostile["clients"]


def _honest(run, found):
  who = set(liars(run))
  if not who:
    return found
  K = len(found["label_counts"])

  def keep(values):
    """Those of honest clients; all of them where they are not one per client."""
    if np.ndim(values) != 1 or len(values) != K:
      return values
    return [x for k, x in enumerate(values) if k not in who]

  own = {key: value for key, value in found.items() if isinstance(value, dict)}
  return found | {key: {h: keep(v) for h, v in heads.items()} for key, heads in own.items()}


def untaught(run: RunRecord) -> set[str]:
  """The auxiliary heads of a run whose graph has no edge, which were never trained."""
  summary = run.summary or {}
  edges = [r.get("edges") for r in summary.get("runs", [summary])]
  return set(summary["heads"][1:]) if all(found == [] for found in edges) else set()


def over_clients(found: Sequence[dict[str, Any]], key: str) -> dict[str, np.ndarray]:
  """The mean over clients of an accuracy, for every seed.

  Args:
    found: R results, one per seed.
    key: such as 'shared_accuracy'.

  Returns:
    {head: f64[R]} of the heads that all of them have, over the clients that have a number.
  """
  return {
    head: np.array([metrics.mean_of_known(r[key][head]) for r in found])
    for head in (found[0].get(key, {}) if found else {})
    if all(head in r.get(key, {}) for r in found)
  }


def mean_and_spread(values: np.ndarray) -> Spread:
  """Mean and sample standard deviation of f64[R] over seeds; with one seed the latter is None."""
  return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None


def accuracies(run: RunRecord, key: str) -> dict[str, Spread]:
  """Mean accuracy per head and its spread: over seeds, or over the clients of the only seed.

  Args:
    run: a `RunRecord`.
    key: 'private_accuracy', 'shared_accuracy' or 'ensemble_accuracy'.

  Returns:
    {head: (mean, spread)}, fractions. With several seeds the spread is the standard deviation of
    their means over clients. For an unfinished run, those of the last evaluation in metrics.jsonl.
  """
  found = results(run)
  if not found:
    last = {head: points[-1, 1:] for head, points in curves(run, key).items()}
    return {h: (mean, None if np.isnan(spread) else spread) for h, (mean, spread) in last.items()}
  if len(found) > 1:
    return {head: mean_and_spread(values) for head, values in over_clients(found, key).items()}
  single = {head: metrics.known(v) for head, v in found[0].get(key, {}).items()}
  return {
    h: (metrics.mean_of_known(v), np.std(v) if len(v) > 1 else None) for h, v in single.items()
  }


PART = re.compile(r"/(std|seed\d+)$")  # what the log has beside a mean, see training/scores.py


def curves(run: RunRecord, key: str) -> dict[str, np.ndarray]:
  """{head: f64[points, 3] of (step, mean, spread)} of one accuracy over all evaluations.

  The spread is over all clients of all seeds; NaN if there is none.
  """
  found: dict[str, list[tuple]] = {}
  idle = untaught(run)
  for line in run.metrics:
    for name, value in line.items():
      head = name.removeprefix(f"{key}/")
      if line["phase"] == "eval" and head != name and not PART.search(head):
        point = line["step"], value, line.get(f"{name}/std", np.nan)
        found.setdefault(head, []).append(point)
  return {head: np.array(points, float) for head, points in found.items() if head not in idle}


def heads(run: RunRecord) -> list[str]:
  """Names of all heads and entries of a run: the summary's `heads`, then other measured ones."""
  keys = ("private_accuracy", "shared_accuracy", "ensemble_accuracy")
  measured = [head for key in keys for head in (*accuracies(run, key), *curves(run, key))]
  own = [head for head in (run.summary or {}).get("heads", []) if head in measured]
  return list(dict.fromkeys([*own, *measured]))


def percent(mean: float, spread: float | None = None) -> str:
  """A fraction in percent with one decimal: '91.2', '91.2 ± 0.4' with a spread; '-' for NaN."""
  if np.isnan(mean):
    return "-"
  return f"{100 * mean:.1f}" + ("" if spread is None else f" ± {100 * spread:.1f}")


def clients(run: RunRecord) -> tuple[int, int]:
  """(clients K of one replica, replicas R) of a finished run."""
  found = results(run)
  return len(found[0]["label_counts"]), len(found)


def spread_over(group: Sequence[RunRecord]) -> str:
  """The population of every ± of a group of runs: '3 seeds', 'the 5 clients of one seed'."""
  own = next(run for run in group if run.summary is not None)
  count, replicas = clients(own)
  count -= len(liars(own))
  if replicas > 1:
    return f"{replicas} seeds, each the mean of its {count} clients"
  return f"the {count} clients of one seed" if count > 1 else "nothing: one client, one seed"


def rows(group: Sequence[RunRecord]) -> list[TableRow]:
  """The closing table's rows for the finished runs: one per head, the run's own first."""
  lines = []
  for run in group:
    if run.summary is None:
      continue
    keys = ("private_accuracy", "shared_accuracy", "ensemble_accuracy")
    measured = [accuracies(run, key) for key in keys]
    sent = size(sum(run.summary.get("bytes_sent", {}).values()))
    for i, head in enumerate(heads(run)):
      private, shared, ensemble = (percent(*m[head]) if head in m else "" for m in measured)
      name, total = (run.name, sent) if i == 0 else ("", "")
      lines.append(TableRow(name, head, private, shared, ensemble, total))
  return lines


def size(count: float) -> str:
  """Bytes as people read them: '16.9 MB'."""
  from rich import filesize

  return filesize.decimal(int(count))


def caption(group: Sequence[RunRecord]) -> str:
  """The meaning of the table's columns and of its ±, in words."""
  replicas = clients(next(run for run in group if run.summary is not None))[1]
  total = ", all seeds together" if replicas > 1 else ""
  return (
    f"Test accuracy, mean ± standard deviation over {spread_over(group)}. private: on the client's "
    "own label distribution; shared: every class weighs the same; ensemble: the clients' averaged "
    f"predictions. bytes sent: over the whole run, every receiver counted{total}."
    + (" Hostile clients are not counted." if any(map(liars, group)) else "")
  )


def closing_table(workdir: str | Path) -> str:
  """The closing table of a run folder as plain text, at most 80 columns wide.

  Args:
    workdir: a run folder; its baselines are the folders WORKDIR/NAME with a summary.json.

  Returns:
    The text; '' if no run has finished.
  """
  group = read_runs(workdir)
  lines = rows(group)
  if not lines:
    return ""
  below = " ".join([caption(group), *(text for run in group for text in troubles.said(run))])
  return formats.text(COLUMNS, lines, words=2, width=WIDTH, caption=below)
