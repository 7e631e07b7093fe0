"""MHD: its tables and its figures, in the paper's form."""

from kdjax.reproduce.claims import LAST_HEAD, Costs, Figure, Lines, Matrices, Quantity, Table
from kdjax.reproduce.papers.mhd.arms import (
  AVERAGED,
  IID_AVERAGED,
  IID_LAST,
  IID_SEPARATE,
  LAST,
  PRIVATE,
  PROBE,
  SEPARATE,
  SUPERVISED,
  at,
  last,
  own,
)
from kdjax.reproduce.papers.mhd.tasks import (
  CYCLES,
  DRAWN,
  EVERYWHERE,
  LONG,
  MAIN,
  ONE_TEACHER,
  PAPER,
  SETS,
)

SKEWS = {"": ("", "s = 100"), "_iid": ("iid_", "s = 0")}  # of a name: before an arm's, in words
METRICS = {"shared": "shared_accuracy", "private": PRIVATE}
# The small tasks' own arm has nu_aux = 1 and three heads, the paper's 3 and four, three at s = 0.
BY_NU = ("embeddings_alone", "mhd", "nu_aux_3", "nu_aux_10")
BY_NU_PAPER = ("embeddings_alone", "nu_aux_1", "mhd", "nu_aux_10")
BY_NU_EMB = ("no_embeddings", "mhd", "nu_emb_3", "nu_emb_10")
BY_HEADS = ("one_head", "two_heads", "mhd", "four_heads", "five_heads")
BY_HEADS_PAPER = {
  "": ("one_head", "two_heads", "three_heads", "mhd"),
  "_iid": ("one_head", "two_heads", "mhd", "four_heads"),
}


def with_skew(arm: str, skew: str) -> str:
  """The name of an arm at a skew, a key of `SKEWS`."""
  before, _ = SKEWS[skew]
  return before.rstrip("_") if before and arm == "mhd" else before + arm


def strengths(name: str, what: str, arms: tuple[str, ...], skew: str, tasks) -> Lines:
  """Accuracies of the first two heads over a loss's weight, 0, 1, 3 and 10."""
  arms = tuple(with_skew(arm, skew) for arm in arms)
  return Lines(
    name,
    f"Strength of distillation, {SKEWS[skew][1]} (Fig. 3)",
    ("0", "1", "3", "10"),
    what,
    "accuracy, %",
    {
      f"{head}, {label}": tuple(Quantity(arm, head, metric) for arm in arms)
      for head in ("main", "aux1")
      for label, metric in METRICS.items()
    },
    tasks,
  )


def heads(name: str, label: str, arms: tuple[str, ...], skew: str, tasks) -> Lines:
  """An accuracy of every head, a line for clients with one head, two and so on."""
  names = ("main", *(f"aux{k + 1}" for k in range(len(arms))))
  return Lines(
    name,
    f"Heads of clients with 1 to {len(arms)}, {label}, {SKEWS[skew][1]} (Fig. 4)",
    names,
    "head",
    f"{label} accuracy, %",
    {
      f"{m} heads" if m > 1 else "1 head": tuple(
        Quantity(with_skew(arm, skew), head, METRICS[label]) for head in names[: m + 1]
      )
      for m, arm in enumerate(arms, 1)
    },
    tasks,
  )


def both(arm: str) -> tuple[Quantity, Quantity]:
  """The last head's shared accuracy and the main head's private one."""
  return last(arm), own(arm)


TABLES: tuple[Figure, ...] = (
  Table(
    "table1",
    "Shared accuracy (Table 1)",
    ("s = 100", "s = 0"),
    {
      "separate": (SEPARATE, IID_SEPARATE),
      "MHD": (LAST, IID_LAST),
      "MHD+": (last("plus", 63.4), last("iid_plus", 68.6)),
      "FedAvg, often": (AVERAGED, IID_AVERAGED),
      "FedAvg, rarely": (
        Quantity("fedavg_rare", paper=65.7),
        Quantity("iid_fedavg_rare", paper=69.1),
      ),
      "supervised": (None, SUPERVISED),
    },
    MAIN,
  ),
  Table(
    "targets",
    "Which candidate teaches (Sections 3.2 and 4.2.2)",
    ("shared, s = 100", "private, s = 100", "shared, s = 0", "private, s = 0"),
    {
      "the most confident": (LAST, own("mhd", paper=72.1), last("iid", 59.5), own("iid", paper=56)),
      "a random one": (
        last("random", 49.0),
        own("random", paper=71.3),
        last("iid_random", 58.4),
        own("iid_random", paper=55.2),
      ),
      "every teacher, Eq. 3": (*both("naive"), *both("iid_naive")),
      "the same, one head": (*both("naive_one_head"), None, None),
    },
    EVERYWHERE,
  ),
  Table(
    "exchanges",
    "How predictions travel: Algorithm 2, Algorithm 1, and a client's own past snapshots",
    ("shared, last head", "private, main head"),
    {"pool": both("mhd"), "fresh": both("fresh"), "published": both("published")},
    SETS,
  ),
  Table(
    "readings",
    "Empty slots, and what candidates speak in: what the paper leaves open",
    ("shared, last head", "private, main head"),
    {
      "as chosen: empty slots, evaluation mode": both("mhd"),
      "slots hold the first weights": both("first_weights"),
      "candidates speak in training mode": both("speak_in_training"),
      "teachers in evaluation, the client in training mode": both("speak_mixed"),
    },
    SETS,
  ),
)

FIGURES: tuple[Figure, ...] = (
  *TABLES,
  *(strengths(f"strength{skew}", "nu_aux", BY_NU, skew, SETS) for skew in SKEWS),
  *(strengths(f"strength{skew}_paper", "nu_aux", BY_NU_PAPER, skew, PAPER) for skew in SKEWS),
  *(strengths(f"strength{skew}_emb", "nu_emb", BY_NU_EMB, skew, DRAWN) for skew in SKEWS),
  *(
    heads(f"heads{skew}{size}_{label}", label, arms, skew, tasks)
    for skew in SKEWS
    for size, arms, tasks in (("", BY_HEADS, SETS), ("_paper", BY_HEADS_PAPER[skew], PAPER))
    for label in METRICS
  ),
  Lines(
    "teachers",
    "Teachers a step (Section 4.2.2)",
    ("1", "2", "3", "4"),
    "Delta",
    "accuracy, %",
    {
      "last, shared": (
        LAST,
        last("two_teachers", 56.1),
        last("three_teachers", 56.4),
        last("four_teachers", 56.2),
      ),
    }
    | {
      label: tuple(
        Quantity(arm, head, METRICS[metric])
        for arm in ("mhd", "two_teachers", "three_teachers", "four_teachers")
      )
      for label, head, metric in (
        ("aux1, shared", "aux1", "shared"),
        ("main, private", "main", "private"),
      )
    },
    ONE_TEACHER,
  ),
  Lines(
    "public",
    "Public examples beside the same private ones (Appendix B.2)",
    ("an eighth", "a third", "all"),
    "public examples",
    "shared accuracy, %",
    {
      head: tuple(Quantity(arm, head) for arm in ("public_eighth", "public_third", "mhd"))
      for head in ("main", "aux1", LAST_HEAD)
    },
    DRAWN,
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
    "distances_far",
    "Accuracy on the classes of the client at each distance, on a long cycle",
    ("own", "1", "2", "3", "4", "5"),
    "hops from student to teacher",
    "accuracy, %",
    {
      head: tuple(at(head, d) for d in range(6))
      for head in ("main", "aux1", "aux2", "aux3", "aux4", "aux5")
    },
    LONG,
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
      "MHD, fresh": last("fresh"),
      "MHD, published": last("published"),
      "FedAvg, often": AVERAGED,
      "FedAvg, rarely": Quantity("fedavg_rare"),
    },
    SETS,
  ),
)
