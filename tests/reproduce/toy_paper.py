"""A small paper, and its runs, written by hand."""

import numpy as np

from kdjax.core import files
from kdjax.reproduce import runs
from kdjax.reproduce.claims import (
  Arm,
  Claim,
  Control,
  Costs,
  Difference,
  Lines,
  Paper,
  Quantity,
  Table,
  Task,
)
from kdjax.reproduce.verdict import REFUTED

A, B, F = Quantity("a", paper=54.5), Quantity("b"), Quantity("frozen")
CLAIM = Claim(
  "gain",
  "Table 1",
  "A is better.",
  {"tiny": ("t",)},
  (Difference(A, B, above=2.0),),
  (Control("training matters", Difference(B, F, above=3.0)),),
  explained={("t", REFUTED): "Because of this."},
)
QUICK = {"steps": 20, "evals.accuracy.every": 20, "save_every": 0}
PAPER = Paper(
  "toy",
  "A toy: of 2026",
  (Task("t", "mhd_digits", 0.1, QUICK),),
  {"a": Arm(), "b": Arm(words="separate"), "frozen": Arm({"optim.lr": 0.0}, words="separate")},
  (CLAIM,),
  (
    Lines("curve", "A (Fig. 1)", ("1", "2"), "n", "%", {"a": (A, B)}, {"tiny": ("t",)}),
    Costs("cost", "B (Fig. 2)", "bytes_sent", "bytes", "%", {"a": A, "b": B}, {"tiny": ("t",)}),
    Table(
      "both", "Both (Table 2)", ("shared", ""), {"A": (A, B), "B": (B, None)}, {"tiny": ("t",)}
    ),
  ),
)


def write_run(asked, arm, shared, *, clients=2, **summary):
  """A finished run with these shared accuracies, one a seed, half a point up and down by client.

  Returns its folder; `summary` goes into summary.json, and metrics.jsonl is empty.
  """
  (run,) = runs.runs(asked, PAPER, PAPER.task("t"), arm)
  run.point.folder.mkdir(parents=True)
  about = {"git": "abc", "versions": {"jax": "1"}, "device": "cpu"}
  files.write_json(run.point.folder / "config.json", {"config": run.point.config} | about)
  each = np.linspace(-0.005, 0.005, clients)
  found = [
    {
      "seed": seed,
      "label_counts": [[1, 1]] * clients,
      "shared_accuracy": {"main": (x + each).tolist(), "aux1": [0.5] * clients},
      "accuracy_by_distance": {"main": {"0": 0.9, "2": 0.25 + 0.01 * seed}},
    }
    for seed, x in enumerate(shared)
  ]
  summary |= {"algorithm": "mhd", "dataset": "digits", "heads": ["main"], "bytes_sent": {"x": 500}}
  files.write_json(
    run.point.folder / "summary.json", summary | {"replicas": 5, "runs": found, "drift": 0.25}
  )
  (run.point.folder / "metrics.jsonl").touch()
  return run.point.folder
