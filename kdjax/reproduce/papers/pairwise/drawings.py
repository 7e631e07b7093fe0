"""Pairwise transfer: its tables and figures, in the paper's form.

Fig. 5 needs one client's curve; what is logged is the mean over clients.
"""

from kdjax.reproduce.claims import Curves, Figure, Matrices, Quantity, Table
from kdjax.reproduce.papers.pairwise.arms import FACES, LOCAL, READINGS, SMALL, of

COLUMNS = ("local", "remote", "among remote", "combined")


def row(arm):
  """A row under COLUMNS."""
  return tuple(of(arm, kind.replace(" ", "_")) for kind in COLUMNS)


FIGURES: tuple[Figure, ...] = (
  Table(
    "accuracy",
    "The local agent (Table 1; no transfer: Tables 2 and 9)",
    COLUMNS,
    {
      "pairwise": row("pairwise"),
      "no transfer": row("no transfer"),
      "no transfer, offset": (
        of("no transfer", "offset_local"),
        of("no transfer", "offset_remote"),
        of("no transfer", "among_remote"),
        of("no transfer", "offset_combined"),
      ),
      "zeroed sources": row("zeroed sources"),
      "random sources": row("random sources"),
      "as coded": row("as coded"),
      "kd": row("kd"),
      "gossip, ADMM": row("gossip, ADMM"),
      "gossip, averaging": row("gossip"),
      "fedavg": row("fedavg"),
    },
    SMALL,
  ),
  Table(
    "readings",
    "Readings of the method, each for itself; the first is that of all claims",
    COLUMNS,
    {name: row(name) for name in ("pairwise", *READINGS, "no transfer")},
    SMALL,
  ),
  Table(
    "meshes",
    "Meshes (Table 6)",
    ("local", "remote", "combined"),
    {
      label: (of(arm, "local"), of(arm, "remote"), of(arm, "combined"))
      for label, arm in (
        ("half", "pairwise"),
        ("full", "full mesh"),
        ("transitive", "transitive"),
        ("federated", "fedavg"),
      )
    },
    SMALL,
  ),
  Table(
    "faces",
    "Smiling or not, all test images (CelebA of Table 1, combined)",
    ("accuracy",),
    {
      arm: (Quantity(arm, clients=(LOCAL,), paper=percent),)
      for arm, percent in (
        ("pairwise", 93.0),
        ("no transfer", None),
        ("kd", 93.0),
        ("gossip, ADMM", 60.0),
        ("fedavg", 92.0),
      )
    },
    FACES,
  ),
  Curves(
    "curves",
    "Accuracy of all clients over all classes (Fig. 4), after local and after transfer epochs",
    "test accuracy",
    {
      arm: (arm, "combined_accuracy/main")
      for arm in ("pairwise", "no transfer", "kd", "gossip, ADMM", "fedavg")
    },
    SMALL,
  ),
  Matrices(
    "confusion",
    "What the local client says of every class (Tables 2 to 5; Fashion-MNIST: 9 to 12)",
    {
      arm: (arm, "confusion", "main")
      for arm in ("no transfer", "pairwise", "fedavg", "gossip, ADMM")
    },
    SMALL,
    clients=(LOCAL,),
  ),
  Matrices(
    "confusion_meshes",
    "The same in the other meshes (Tables 7 and 8)",
    {arm: (arm, "confusion", "main") for arm in ("full mesh", "transitive")},
    SMALL,
    clients=(LOCAL,),
  ),
)
