"""FedGKT: its tables and figures, in the paper's form.

Fig. 5's bars of split learning are a number of `summary.json`, `split_learning_eq12`, of no run.
"""

from kdjax.reproduce.claims import Costs, Curves, Figure, Quantity, Table
from kdjax.reproduce.papers.fedgkt.arms import (
  CIFAR10,
  EVERYWHERE,
  HARD,
  IID,
  PUBLISHED_IID,
  PUBLISHED_SKEWED,
  SKEWED,
  of,
)


def row(*arms):
  """A table's only row."""
  return {"accuracy": tuple(of(arm) for arm in arms)}


def at(task, arm, paper):
  """Shared accuracy beside a number that the paper has for one task alone."""
  return Quantity(arm, paper={task: paper})


SMALL = {size: tasks for size, tasks in EVERYWHERE.items() if size != "paper"}

FIGURES: tuple[Figure, ...] = (
  Table(
    "accuracy",
    "Accuracy (Table 1, ResNet-56, IID)",
    ("FedGKT", "FedAvg", "centralised, large", "centralised, edge's", "edges frozen"),
    row("fedgkt", "fedavg", "central", "central_edge", "frozen"),
    IID,
  ),
  Table(
    "accuracy_skewed",
    "Accuracy (Table 1, ResNet-56, non-IID)",
    ("FedGKT", "FedAvg", "edges alone", "edges frozen"),
    row("fedgkt", "fedavg", "separate", "frozen"),
    SKEWED,
  ),
  Table(
    "accuracy_110",
    "Accuracy (Table 1, ResNet-110, IID)",
    ("FedGKT", "FedAvg", "centralised, large"),
    row("fedgkt_110", "fedavg_110", "central_110"),
    PUBLISHED_IID,
  ),
  Table(
    "accuracy_110_skewed",
    "Accuracy (Table 1, ResNet-110, non-IID)",
    ("FedGKT", "FedAvg"),
    row("fedgkt_110", "fedavg_110"),
    PUBLISHED_SKEWED,
  ),
  Table(
    "losses",
    "Who learns from whom (Table 2)",
    ("none", "only S->E", "both"),
    row("none", "server_to_edge", "both"),
    IID,
  ),
  Table(
    "arrivals",
    "A server that waits for all, and one that does not (Table 3)",
    ("synchronous", "asynchronous, on all", "asynchronous, on what arrived"),
    row("fedgkt", "async", "async_arrived"),
    IID,
  ),
  Table(
    "edges",
    "So many edges (Table 4)",
    ("8", "16", "64", "128"),
    {
      "accuracy": (
        at("cifar100_published_iid", "8_edges", 69.51),
        of("fedgkt"),
        at("cifar100_published_iid", "64_edges", 69.65),
        at("cifar100_published_iid", "128_edges", 69.59),
      )
    },
    HARD,
  ),
  Table(
    "small_edges",
    "Smaller networks on the edge (Table 5)",
    ("ResNet-4", "ResNet-6", "ResNet-8"),
    {
      "accuracy": (
        at("cifar10_published_iid", "resnet_4", 88.86),
        at("cifar10_published_iid", "resnet_6", 90.32),
        of("fedgkt"),
      )
    },
    CIFAR10,
  ),
  Curves(
    "curves",
    "Test accuracy over training (Fig. 3, IID)",
    "test accuracy",
    {
      "FedGKT": ("fedgkt", "shared_accuracy/main"),
      "FedAvg": ("fedavg", "shared_accuracy/main"),
      "centralised": ("central", "shared_accuracy/main"),
    },
    IID,
  ),
  Curves(
    "drift",
    "Drift of the extractors over a run",
    "distance from the mean / its norm",
    {"FedGKT": ("fedgkt", "drift"), "both teach": ("both", "drift"), "none": ("none", "drift")},
    SMALL,  # in the published settings both teach
  ),
  Costs(
    "flops",
    "Accuracy against the work of an edge (Figs. 4, 6 and 7)",
    "flops.edge",
    "FLOPs of an edge over the run",
    "shared accuracy, %",
    {"FedGKT": of("fedgkt"), "FedAvg": of("fedavg")},
    EVERYWHERE,
  ),
  Costs(
    "bytes",
    "Accuracy against bytes (Fig. 5)",
    "bytes_sent",
    "bytes sent",
    "shared accuracy, %",
    {"FedGKT": of("fedgkt"), "asynchronous": of("async"), "FedAvg": of("fedavg")},
    EVERYWHERE,
  ),
)
