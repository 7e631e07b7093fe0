"""`kdjax compare RUN...`: the results of runs, side by side, over seeds.

Every number is one seed's mean over its clients. Means and standard deviations are over seeds. Runs
that differ only in their seeds are one row.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kdjax.report import details, entries, formats, table
from kdjax.report.entries import Entry
from kdjax.report.table import RunRecord
from kdjax.types import ConfigError

# Prefixes of the metrics that are shares and do not end in _accuracy.
SHARES = ("linear_probe", *(f"overlap_{where}" for where in ("test", "core", "edge")))
METRICS = ("private_accuracy", "shared_accuracy", "ensemble_accuracy")


def rows(
  runs: Sequence[RunRecord],
  metrics: Sequence[str] | None = None,
  baseline: str | None = None,
) -> list[dict[str, Any]]:
  """One dict for every method and head: means and spreads over seeds, and the costs.

  Args:
    runs: the runs of `entries.read`; those that have not finished are left out.
    metrics: keys of summary.json, {head: a number, or one per client}; None: those of `METRICS`
      that were measured.
    baseline: the name of a row, or the folder of one of its runs. The dicts then also hold the
      differences to it.

  Returns:
    Dicts of the same keys: method, head, seeds (their number), clients; METRIC and METRIC_spread
    (standard deviation over seeds, None with one seed); with a baseline METRIC_difference and
    METRIC_difference_spread, by seed against the baseline's main head, and pairs (the number of
    seeds that both have); bytes_sent and private_examples (per client), both per seed. None: not
    measured.

  Raises:
    ConfigError: for a metric that no run has, or an unknown baseline.
  """
  found = entries.entries(runs)
  metrics = _metrics(found, metrics)
  base = _named(found, baseline) if baseline is not None else None
  return [
    {"method": entry.name, "head": head, "seeds": len(entry.results)}
    | {"clients": len(entry.results[0]["label_counts"])}
    | _means(entry, head, metrics)
    | (_differences(entry, base, head, metrics) if base else {})
    | {"bytes_sent": float(np.mean([r["bytes"] for r in entry.results]))}
    | {"private_examples": _examples(entry)}
    for entry in found
    for head in _heads(entry, metrics)
  ]


def unpaired(runs: Sequence[RunRecord], baseline: str) -> list[str]:
  """A sentence for each method whose seeds are not those of the baseline, with those left out."""
  found = entries.entries(runs)
  base = _named(found, baseline)
  sentences = []
  for entry in found:
    for side, other in ((entry, base), (base, entry)):
      alone = [str(seed) for seed in side.seeds if seed not in other.seeds]
      if alone:
        pair = f"{entry.name} - {base.name}: left out, with {side.name} alone"
        sentences.append(f"{pair}: seeds {', '.join(alone)}")
  return sentences


def _metrics(found: Sequence[Entry], asked: Sequence[str] | None) -> list[str]:
  """The metrics to show: those asked for, or those of `METRICS` that any run has."""
  known = {
    key
    for entry in found
    for key, value in entry.results[0].items()
    if isinstance(value, dict) and all(np.ndim(v) < 2 for v in value.values())
    if not any(isinstance(v, dict) for v in value.values())
  }
  for name in asked or ():
    if name not in known:
      raise ConfigError("--metric", name, f"must be one of {', '.join(sorted(known))}")
  return list(asked) if asked else [name for name in METRICS if name in known]


def _named(found: Sequence[Entry], name: str) -> Entry:
  names = [entry.name for entry in found]
  for entry in found:
    if entry.name == name or (name not in names and Path(name).resolve() in entry.folders):
      return entry
  hint = "must be the folder of a run that is compared, or one of " + ", ".join(map(repr, names))
  raise ConfigError("--baseline", name, hint)


def _heads(entry: Entry, metrics: Sequence[str]) -> list[str]:
  """Heads and entries with any of the metrics; '-' for a method that has none of them."""
  found = [head for key in metrics for head in table.over_clients(entry.results, key)]
  return list(dict.fromkeys(found)) or ["-"]


def _means(entry: Entry, head: str, metrics: Sequence[str]) -> dict[str, float | None]:
  out: dict[str, float | None] = {}
  for key in metrics:
    values = table.over_clients(entry.results, key).get(head)
    out |= _pair(key, values)
  return out


def _differences(
  entry: Entry, base: Entry, head: str, metrics: Sequence[str]
) -> dict[str, float | int | None]:
  """Differences to the baseline's main head, or its first, over the seeds that both have."""
  seeds = [seed for seed in entry.seeds if seed in base.seeds]
  at = lambda e: [e.seeds.index(seed) for seed in seeds]
  out: dict[str, float | int | None] = {"pairs": len(seeds) if entry is not base else None}
  for key in metrics:
    own, others = (table.over_clients(e.results, key) for e in (entry, base))
    other = others.get("main", next(iter(others.values()), None))
    difference = None
    if entry is not base and seeds and head in own and other is not None:
      difference = own[head][at(entry)] - other[at(base)]
    out |= _pair(f"{key}_difference", difference)
  return out


def _pair(key: str, values: np.ndarray | None) -> dict[str, float | None]:
  """{key: mean, key_spread: standard deviation}; None if there are no values."""
  if values is None or np.isnan(values).any():
    return {key: None, f"{key}_spread": None}
  mean, spread = table.mean_and_spread(values)
  return {key: mean, f"{key}_spread": spread}


def _examples(entry: Entry) -> float | None:
  found = [r["private_examples"] for r in entry.results if "private_examples" in r]
  return float(np.mean(found)) if found else None


def cells(found: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
  """(header, text cells) of the dicts of `rows`; a column without any number is left out."""
  columns = {"method": "method", "head": "head", "seeds": "seeds"}
  for key in found[0]:
    if f"{key}_spread" in found[0]:
      metric = key.removesuffix("_difference")
      unit = " %" if _is_share(metric) else ""
      name = metric.removesuffix("_accuracy").replace("_", " ")
      columns[key] = f"{name}{unit}" + (" difference" if key != metric else "")
  columns |= {"pairs": "pairs", "bytes_sent": "sent per seed", "private_examples": "examples"}
  columns = {k: n for k, n in columns.items() if any(row.get(k) is not None for row in found)}
  return list(columns.values()), [[_cell(row, key) for key in columns] for row in found]


def _is_share(metric: str) -> bool:
  """Whether a metric is a share, shown in percent; others are shown as they are."""
  return metric.endswith("_accuracy") or metric.startswith(SHARES)


def _cell(row: dict[str, Any], key: str) -> str:
  value = row[key]
  if value is None:
    return "-"
  if f"{key}_spread" in row:
    spread = row[f"{key}_spread"]
    if _is_share(key.removesuffix("_difference")):
      return table.percent(value, spread)
    return f"{value:.4g}" + ("" if spread is None else f" ± {spread:.2g}")
  if key == "bytes_sent":
    return table.size(value)
  return f"{value:,.0f}" if key == "private_examples" else str(value)


def text(found: Sequence[dict[str, Any]]) -> str:
  """The dicts of `rows` as a table for a terminal, with a caption."""
  header, lines = cells(found)
  several = any(row["seeds"] > 1 for row in found)
  over = "mean ± standard deviation over seeds" if several else "one seed each, no spread"
  note = f"Each seed's mean over its clients; {over}. Sent: every receiver counted. "
  note += "Examples: private examples that went through a model, per client."
  return formats.text(header, lines, words=2, width=formats.columns(200), caption=note)


def compare_cli(argv: Sequence[str]) -> int:
  """`kdjax compare RUN...`; returns the exit code.

  Args:
    argv: what follows the word `compare`.

  Raises:
    ConfigError: for a folder without a run, an unknown metric or baseline.
  """
  options = _parser().parse_args(argv)
  if options.full:
    print("\n\n".join(details.report(place) for place in entries.folders(options.runs)))
    return 0
  runs = entries.read(options.runs)
  found = rows(runs, options.metric, options.baseline)
  notes = unpaired(runs, options.baseline) if options.baseline is not None else []
  waiting = [f"{run.folder} has not finished: left out" for run in runs if run.summary is None]
  print(_shown(found, options).rstrip("\n"))
  for note in (*notes, *waiting):
    print(note, file=sys.stderr)
  return 0


def _shown(found: Sequence[dict[str, Any]], options: argparse.Namespace) -> str:
  if options.csv:
    return formats.csv(found)
  if options.markdown:
    return formats.markdown(*cells(found))
  return formats.latex(*cells(found), words=2) if options.latex else text(found)


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog="kdjax compare", description="The results of runs, side by side, over seeds."
  )
  parser.add_argument("runs", nargs="+", metavar="RUN", help="a run's folder, or a folder of them")
  form = parser.add_mutually_exclusive_group()
  form.add_argument("--csv", action="store_true", help="every number in full, fractions")
  form.add_argument("--markdown", action="store_true")
  form.add_argument("--latex", action="store_true", help="a tabular; needs booktabs")
  form.add_argument("--full", action="store_true", help="all tables of each run, as markdown")
  parser.add_argument(
    "--metric", action="append", help="a key of summary.json, such as shared_accuracy; repeatable"
  )
  parser.add_argument(
    "--baseline", help="a row's name, or a run's folder: differences to it, paired by seed"
  )
  return parser
