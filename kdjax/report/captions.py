"""The titles and captions of a report's figures."""

from collections.abc import Sequence

import numpy as np

from kdjax.report import table
from kdjax.report.table import RunRecord

FIGURES = {  # title, caption
  "methods": (
    "Where the methods ended",
    "Shared accuracy of the run's heads (blue) and of the baselines (grey), best first. Dot: mean; "
    "line: ± one standard deviation.",
  ),
  "methods_shared": (
    "Shared accuracy beside the baselines",
    "On test data where every class weighs the same. Thick: this run, its first head dashed, its "
    "last one solid. Thin: the last head of each baseline. The key is in the order of the last "
    "values, in percent.",
  ),
  "methods_private": (
    "Private accuracy beside the baselines",
    "On test data weighted by the client's own label distribution; drawn in the same way, but the "
    "main head of each baseline.",
  ),
  "shared": (
    "Shared accuracy by head",
    "On test data where every class weighs the same: what a client knows of everybody's task.",
  ),
  "private": (
    "Private accuracy by head",
    "On test data weighted by the client's own label distribution: how well it does its own task.",
  ),
  "losses": ("Losses", "As logged during training, mean over the clients that took part."),
  "overlap": (
    "Who gets what right",
    "Shares of examples that the returned edge model (teacher) and the core (student) classify "
    "correctly: both, the core alone, the edge alone. Line: consensus, both over either. Mean over "
    "seeds.",
  ),
  "confusion": (
    "Confusion",
    "Row: true class; column: predicted class; percent of the true class's test examples, one "
    "panel per client.",
  ),
  "communication": (
    "Communication",
    "Bytes over the whole run: counted, and by the paper's formulas.",
  ),
  "flops": ("Arithmetic", "FLOPs, two per multiply-add; a training step counts as three passes."),
  "drift": (
    "Drift of the extractors",
    "Distance of the clients' extractor weights from their mean, over the mean's norm, after every "
    "round's training on the edge; mean over the clients.",
  ),
  "distances": (
    "Accuracy by graph distance",
    "On the label distribution of a client at that distance in links, its own at distance 0. What "
    "a client knows of clients more than one link away came through the clients between.",
  ),
  "owners": (
    "Who knows whose labels",
    "Row: client; column: client whose label distribution it is tested on; accuracy in percent, "
    "one panel per head. The diagonal is private accuracy.",
  ),
  "graph": ("Graph", "An arrow runs from a student to a teacher it learns from."),
  "labels": ("Private data", "Private training examples of each class at each client."),
  "traffic": ("Bytes sent", "Over the whole run, every receiver counted."),
}


def remarks(group: Sequence[RunRecord]) -> dict[str, str]:
  """Additions to the captions for a group of runs: {figure: sentences}."""
  finished = group[0].summary is not None
  count, replicas = table.clients(group[0]) if finished else (0, 1)
  count -= len(table.liars(group[0]))
  added = dict.fromkeys(FIGURES, "")
  if replicas > 1:
    added |= dict.fromkeys(("owners", "distances", "confusion"), "Mean over the seeds.")
    added |= dict.fromkeys(("graph", "labels"), "Of the first seed.")
    added |= dict.fromkeys(("traffic", "communication"), "All seeds together.")
  whose = f"{count} clients" if finished else "clients"
  over = f"the {whose} of all {replicas} seeds" if replicas > 1 else f"the {whose}"
  band = f"Mean over {over}; band: ± one standard deviation over them."
  added |= dict.fromkeys(("shared", "private"), band)
  if len(group) > 1:
    added["methods"] = f"Strokes: the {f'{replicas} seeds' if replicas > 1 else whose}."
    added["methods_shared"] = _rhythms(group)
    added["traffic"] += " Grey: baselines."
  return added


def _rhythms(group: Sequence[RunRecord]) -> str:
  """Why the x axis is a share of each run; '' if all runs take the same number of steps."""
  from kdjax.report.curve_figures import same_rhythm

  examples = [r.get("private_examples", []) for run in group for r in table.results(run)[:1]]
  used = [np.mean(found) for found in examples if len(found)]
  if same_rhythm(group):
    return ""
  reason = "Methods count steps differently, so each is drawn over the share of its own run"
  if not used:
    return f"{reason}."
  low, high = (f"{n:,.0f}" for n in (min(used), max(used)))
  amount = low if low == high else f"{low} to {high}"
  return f"{reason}; over a whole run {amount} private examples per client went through a model."
