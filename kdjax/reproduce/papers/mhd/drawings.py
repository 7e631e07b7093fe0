"""MHD: its table and its figures, in the paper's form."""

from kdjax.reproduce.claims import Costs, Figure, Lines, Matrices, Quantity, Table
from kdjax.reproduce.papers.mhd.arms import (
  AVERAGED,
  CYCLES,
  EVERYWHERE,
  LAST,
  PRIVATE,
  PROBE,
  SEPARATE,
  SETS,
  at,
  own,
)

BY_HEADS = {
  "one_head": "1 head",
  "two_heads": "2 heads",
  "mhd": "3 heads",
  "four_heads": "4 heads",
}
BY_NU = ("embeddings_alone", "mhd", "nu_aux_3", "nu_aux_10")


def by_nu(head: str, metric: str) -> tuple[Quantity, ...]:
  """A head over nu_aux = 0, 1, 3, 10."""
  return tuple(Quantity(arm, head, metric) for arm in BY_NU)


FIGURES: tuple[Figure, ...] = (
  Table(
    "table1",
    "Shared accuracy (Table 1)",
    ("s = 100", "s = 0"),
    {
      "separate": (SEPARATE, Quantity("iid_separate", paper=46.3)),
      "MHD": (LAST, Quantity("iid", "aux3", paper=59.9)),
      "MHD+": (Quantity("plus", "aux3", paper=63.4), None),
      "FedAvg, often": (AVERAGED, Quantity("iid_fedavg", paper=70.5)),
      "FedAvg, rarely": (Quantity("fedavg_rare", paper=65.7), None),
    },
    EVERYWHERE,
  ),
  Lines(
    "strength",
    "Strength of prediction distillation (Fig. 3)",
    ("0", "1", "3", "10"),
    "nu_aux",
    "accuracy, %",
    {
      "main, private": by_nu("main", PRIVATE),
      "main, shared": by_nu("main", "shared_accuracy"),
      "aux1, private": by_nu("aux1", PRIVATE),
      "aux1, shared": by_nu("aux1", "shared_accuracy"),
    },
    SETS,
  ),
  *(
    Lines(
      f"heads_{arm}",
      f"Heads of clients with {label} (Fig. 4)",
      ("main", *(f"aux{k}" for k in range(1, m + 1))),
      "head",
      "accuracy, %",
      {
        name: tuple(
          Quantity(arm, h, metric) for h in ("main", "aux1", "aux2", "aux3", "aux4")[: m + 1]
        )
        for name, metric in (("shared", "shared_accuracy"), ("private", PRIVATE))
      },
      SETS,
    )
    for m, (arm, label) in enumerate(BY_HEADS.items(), 1)
  ),
  Lines(
    "teachers",
    "Teachers a step (Section 4.2.2)",
    ("1", "2", "3"),
    "Delta",
    "accuracy, %",
    {
      "aux3, shared": (
        LAST,
        Quantity("two_teachers", "aux3", paper=56.1),
        Quantity("three_teachers", "aux3", paper=56.4),
      ),
      "main, private": tuple(own(arm) for arm in ("mhd", "two_teachers", "three_teachers")),
    },
    SETS,
  ),
  Lines(
    "public",
    "Public examples beside the same private ones (Appendix B.2)",
    ("50", "150", "400"),
    "public examples",
    "shared accuracy, %",
    {
      head: tuple(Quantity(f"public_{n}", head) for n in (50, 150, 400))
      for head in ("main", "aux1", "aux3")
    },
    SETS,
  ),
  Lines(
    "distances",
    "Accuracy on the classes of the client at each distance, on a cycle (Fig. 6)",
    ("own", "1", "2", "3"),
    "hops from student to teacher",
    "accuracy, %",
    {head: tuple(at(head, d) for d in range(4)) for head in ("main", "aux1", "aux2", "aux3")},
    CYCLES,
  ),
  Lines(
    "topologies",
    "Shared accuracy by topology, and a head tuned on frozen embeddings (Fig. 6)",
    ("islands", "cycle", "complete"),
    "graph",
    "accuracy, %",
    {
      head: tuple(Quantity(arm, head) for arm in ("islands", "mhd", "complete"))
      for head in ("main", "aux1", "aux2", "aux3")
    }
    | {
      "tuned head": tuple(Quantity(arm, "shared", PROBE) for arm in ("islands", "mhd", "complete"))
    },
    CYCLES,
  ),
  Matrices(
    "owners",
    "Each client on the labels of each (Section 4.4)",
    {
      f"{label}, {head}": (arm, "accuracy_by_owner", head)
      for arm, label in (("islands", "islands"), ("mhd", "cycle"))
      for head in ("aux1", "aux3")
    },
    CYCLES,
  ),
  Costs(
    "bytes",
    "Shared accuracy against what was sent (Section 3.2)",
    "bytes_sent",
    "bytes sent",
    "shared accuracy, %",
    {
      "MHD": LAST,
      "MHD, 3 teachers": Quantity("three_teachers", "aux3"),
      "FedAvg, often": AVERAGED,
      "FedAvg, rarely": Quantity("fedavg_rare"),
    },
    SETS,
  ),
)
