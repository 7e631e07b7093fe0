"""Async edge learning: its figures and table, in the paper's form."""

from kdjax.reproduce.claims import Curves, Figure, Lines, Table
from kdjax.reproduce.papers.async_edge.arms import TEN, THREE, VARIANTS, core, variant

FIGURES: tuple[Figure, ...] = (
  Table(
    "variants",
    "Test accuracy of the core after the last round (Fig. 5)",
    ("core",),
    {name: (variant(name),) for name in VARIANTS},
    TEN,
  ),
  Curves(
    "rounds",
    "Test accuracy of the core (Fig. 5)",
    "test accuracy",
    {name: (name, "shared_accuracy/core/main") for name in VARIANTS},
    TEN,
  ),
  Curves(
    "consensus_rounds",
    "Prediction consensus of core and teacher (Fig. 6b)",
    "consensus",
    {name: (name, "overlap_test/consensus") for name in ("IPP", "IPM", "CPP", "CPM")},
    TEN,
  ),
  Curves(
    "intersection_rounds",
    "Prediction intersection of core and teacher (Fig. 6a)",
    "share of test images",
    {name: (name, "overlap_test/mutual") for name in ("IPP", "IPM", "CPP", "CPM")},
    TEN,
  ),
  Curves(
    "first_edge_rounds",
    "Prediction intersection of the core and the first edge (Fig. 6c)",
    "share of test images",
    {name: (name, "overlap_test_first/mutual") for name in ("IPP", "IPM", "CPP", "CPM")},
    TEN,
  ),
  Curves(
    "noise",
    "Test accuracy of the core, the fourth and seventh edge wrong (Fig. 8a)",
    "test accuracy",
    {name: (name, "shared_accuracy/core/main") for name in ("CEM", "wrong")},
    TEN,
  ),
  Curves(
    "noise_edge",
    "Test accuracy of the edges, the fourth and seventh edge wrong (Fig. 8b)",
    "test accuracy",
    {name: (name, "shared_accuracy/edge/main") for name in ("CEM", "wrong")},
    TEN,
  ),
  Curves(
    "noise_training",
    "Training accuracy of the core, the fourth and seventh edge wrong (Fig. 8c)",
    "training accuracy",
    {name: (name, "train_accuracy") for name in ("CEM", "wrong")},
    TEN,
  ),
  Lines(
    "lag_cases",
    "A late edge (Fig. 7)",
    ("omitted", "in time", "late"),
    "",
    "test accuracy %",
    {"core": (core("omitted", 62.65), core("in time", 64.25), core("late", 63.37))},
    THREE,
  ),
)
