"""What a run says seed by seed: the tables of docs/results.md, from a run folder with replicas.

  python -m kdjax.report.seeds WORKDIR

Every number is one seed's mean over its clients; mean, standard deviation and extremes are over
seeds. With baselines in WORKDIR/NAME, the difference to each is paired seed by seed.
"""

import sys

import numpy as np

from kdjax.report import table
from kdjax.types import ConfigError


def over_clients(run, key):
  """{head: f64[R]}: the mean over clients of an accuracy, for every seed."""
  results = table.runs(run.summary)
  return {
    head: np.array([np.mean(np.array(r[key][head], float)) for r in results])
    for head in results[0].get(key, {})
  }


def by_distance(run):
  """{(head, distance): f64[R]}: accuracy on the labels of clients at a graph distance."""
  results = table.runs(run.summary)
  found = results[0].get("accuracy_by_distance", {})
  return {
    (head, d): np.array([r["accuracy_by_distance"][head][d] for r in results], float)
    for head, at in found.items()
    for d in at
  }


def spread(values):
  """'mean ± sd (lowest .. highest)' over seeds, in percent; '-' where one has no number."""
  if np.isnan(values).any():
    return "-"
  v = 100 * values
  sd = f" ± {v.std(ddof=1):.1f}" if len(v) > 1 else ""
  return f"{v.mean():.1f}{sd} ({v.min():.1f} .. {v.max():.1f})"


def markdown(header, rows):
  """A markdown table."""
  line = lambda cells: "| " + " | ".join(cells) + " |"
  return "\n".join([line(header), line(["---"] * len(header)), *map(line, rows)])


def accuracy_table(group):
  """Private and shared accuracy of every head of every run, over seeds."""
  rows = []
  for run in group:
    private, shared = (over_clients(run, f"{k}_accuracy") for k in ("private", "shared"))
    own = lambda h: spread(private[h]) if h in private else "-"  # noqa: B023, used at once
    rows += [[run.name, h, own(h), spread(shared[h])] for h in shared]
  return markdown(["method", "head", "private %", "shared %"], rows) if rows else ""


def difference_table(group):
  """Shared accuracy of the run's heads less that of each baseline, paired by seed."""
  own, *others = group
  shared = over_clients(own, "shared_accuracy")
  rows = []
  for other in others:
    base = over_clients(other, "shared_accuracy")
    if not base:
      continue
    base = base.get("main", next(iter(base.values())))
    rows += [[f"{head} - {other.name}", spread(value - base)] for head, value in shared.items()]
  return markdown(["shared accuracy", "points"], rows) if rows else ""


def distance_table(run):
  """Accuracy by head and graph distance, over seeds."""
  found = by_distance(run)
  distances = list(dict.fromkeys(d for _, d in found))
  rows = [
    [head, *(spread(found[head, d]) for d in distances)]
    for head in dict.fromkeys(h for h, _ in found)
  ]
  if not found:
    return ""
  return markdown(["head", *(f"distance {d}" for d in distances)], rows)


def cost_table(group):
  """What every run sent, and how many private examples went through a model, a client."""
  rows = []
  for run in group:
    results = table.runs(run.summary)
    sent = sum(run.summary["bytes_sent"].values()) / len(results)
    examples = np.mean([r["private_examples"] for r in results])
    rows.append([run.name, f"{sent / 1e6:.2f}", f"{examples:,.0f}"])
  return markdown(["method", "MB sent a seed", "private examples a client"], rows)


def client_table(group):
  """Local, remote and combined accuracy of every client of every run, over seeds."""
  kinds, rows = ("local", "remote", "combined"), []
  for run in group:
    results = table.runs(run.summary)
    for k in range(len(results[0]["label_counts"])):
      found = [
        np.array([r[f"{kind}_accuracy"]["main"][k] for r in results], float)
        if f"{kind}_accuracy" in results[0]
        else None
        for kind in kinds
      ]
      if found[-1] is not None:
        rows.append([run.name, str(k), *("-" if v is None else spread(v) for v in found)])
  return markdown(["method", "client", *(f"{kind} %" for kind in kinds)], rows) if rows else ""


def round_table(run):
  """Round by round, means over seeds: the core, its teacher, their consensus, and the watch.

  What was not measured has no column.
  """
  names = {
    "core": "overlap_test/student",
    "teacher": "overlap_test/teacher",
    "consensus": "overlap_test/consensus",
    "core on the edge's data": "overlap_edge/student",
    "training accuracy": "train_accuracy",
    "flagged": "flag",
  }
  steps = {}
  for line in run.metrics:
    steps.setdefault(line["step"], {}).update(line)
  rounds = [found for found in steps.values() if "flag" in found]  # the watch ends each
  names = {name: key for name, key in names.items() if any(key in found for found in rounds)}
  cell = lambda value: "-" if value is None else f"{100 * value:.1f}"
  rows = [
    [str(turn), *(cell(found.get(key)) for key in names.values())]
    for turn, found in enumerate(rounds, 1)
  ]
  return markdown(["round", *names], rows) if rows else ""


def report(workdir):
  """All tables of a run folder, as markdown.

  Raises:
    ConfigError: the folder's own run, whatever its baselines, has not finished.
  """
  group = table.read_runs(workdir)
  if group[0].summary is None or not group[0].record:
    hint = "holds no finished run: it needs summary.json and config.json"
    raise ConfigError("workdir", str(workdir), hint)
  parts = [accuracy_table(group), difference_table(group), distance_table(group[0])]
  parts += [client_table(group), round_table(group[0]), cost_table(group)]
  seconds = {run.name: round(run.summary["wall_seconds"]) for run in group}
  seeds = [r.get("seed") for r in table.runs(group[0].summary)]
  record = group[0].record
  versions = record["versions"]
  facts = f"seeds {seeds}; seconds {seconds}; commit {record['git']}; jax {versions['jax']}"
  return "\n\n".join([*filter(None, parts), f"{facts}; {record['device']}"])


if __name__ == "__main__":
  if len(sys.argv) != 2:
    sys.exit("usage: python -m kdjax.report.seeds WORKDIR")
  try:
    print(report(sys.argv[1]))
  except ConfigError as error:
    sys.exit(f"kdjax: {error}")
