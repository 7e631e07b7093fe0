"""No paper: every method on one split, each with its own settings, and what it sends for it."""

from typing import Any

from kdjax.reproduce.claims import Arm, Costs, Paper, Quantity, Table, Task

OTHERS = {  # label: (the baseline, the entry that is tested)
  "FedAvg": ("fedavg", "main"),
  "separate": ("separate", "main"),
  "supervised": ("supervised", "main"),
  "FedMD": ("fedmd", "main"),
  "FedGKT": ("fedgkt", "main"),
  "async edge": ("async_edge", "core/main"),
  "pairwise transfer": ("pairwise", "main"),
  "real-time KD": ("kd", "main"),
  "gossip": ("gossip", "main"),
}
FORMS: dict[str, dict[str, Any]] = {  # ways in which MHD's predictions travel
  "MHD": {},
  "MHD, fresh": {"algo.exchange": "fresh"},
  "MHD, published": {"algo.exchange": "published"},
  "MHD, published, top 2": {"algo.exchange": "published", "algo.top_k": 2},
}
REACHED = {label: Quantity(label, "aux3") for label in FORMS}
REACHED |= {label: Quantity(label, head) for label, (_, head) in OTHERS.items()}
SETS: dict[str, tuple[str, ...]] = {"tiny": ("digits",), "small": ("letter", "fashion_mnist")}

PAPER = Paper(
  name="methods",
  title="Every method on one split, each with its own settings",
  tasks=(
    Task("digits", "all_digits", 0.6),
    Task("letter", "all_letter", 5.0, data="letter"),
    Task("fashion_mnist", "all_fashion_mnist", 6.0, data="fashion_mnist"),
  ),
  arms={label: Arm(settings) for label, settings in FORMS.items()}
  | {label: Arm(words=name) for label, (name, _) in OTHERS.items()},
  claims=(),
  figures=(
    Table(
      "methods",
      "Test accuracy with as many private examples a client",
      ("shared",),
      {label: (quantity,) for label, quantity in REACHED.items()},
      SETS,
    ),
    Costs(
      "bytes",
      "Accuracy against bytes, every method and form of message",
      "bytes_sent",
      "bytes sent",
      "shared accuracy, %",
      REACHED,
      SETS,
    ),
  ),
)
