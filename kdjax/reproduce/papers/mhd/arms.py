"""MHD: on what it is tried, the ways of training, and what several claims are about."""

from kdjax.reproduce.claims import Arm, Control, Difference, Quantity, Task
from kdjax.reproduce.verdict import NOT_TESTABLE

PRIVATE, DISTANCE, PROBE = "private_accuracy", "accuracy_by_distance", "linear_probe"

# Section 4.5's small and large networks; the embeddings are of one width.
SMALL = ("mlp", dict(hidden=(16, 32), activation="relu"))
LARGE = ("mlp", dict(hidden=(256, 256, 32), activation="relu"))
CNN = ("cnn", dict(widths=(8, 16, 32)))
MIXED = {"clients": ((3, *SMALL), (1, *LARGE)), "labels": 5}  # half of the labels each

TASKS = (
  Task("digits", "mhd_digits", 0.4),
  Task("letter", "mhd_letter", 4.0, data="letter"),
  Task("fashion_mnist", "mhd_fashion_mnist", 5.0, data="fashion_mnist"),
  Task(
    "cifar10",
    "mhd_cifar10_small",
    12.0,
    {"clients": ((5, *CNN),), "holdout": 5_000, "steps": 2_000},
    data="cifar10",
  ),
  Task("cifar10_whole", "mhd_cifar10", 60.0, data="cifar10"),
  Task("digits_cycle", "mhd_digits_cycle:probe", 0.4),
  Task("fashion_cycle", "mhd_fashion_mnist_cycle:probe", 2.0, data="fashion_mnist"),
  Task("digits_mixed", "mhd_digits", 0.4, MIXED),
  Task("fashion_mixed", "mhd_fashion_mnist", 4.0, MIXED, data="fashion_mnist"),
  Task("imagenet", "mhd_imagenet", 3_500.0, data="imagenet"),
  Task("imagenet_topologies", "mhd_imagenet_topologies", 3_500.0, data="imagenet"),
)

FEDAVG = {"algo.local_steps": 20}
IID = {"skew": 0.0}
FOUR = {"clients": ((4, *SMALL),)}
ARMS = {
  "mhd": Arm(),
  "separate": Arm(words="separate"),
  "fedavg": Arm(FEDAVG, "fedavg"),
  "fedavg_rare": Arm({"algo.local_steps": 200}, "fedavg"),
  "one_head": Arm({"algo.aux_heads": 1}),
  "two_heads": Arm({"algo.aux_heads": 2}),
  "four_heads": Arm({"algo.aux_heads": 4}),
  "random": Arm({"algo.target": "random"}),
  "two_teachers": Arm({"algo.teachers": 2}),
  "three_teachers": Arm({"algo.teachers": 3}),
  "skip": Arm({"algo.skip_confident": True}),
  "one_head_skip": Arm({"algo.aux_heads": 1, "algo.skip_confident": True}),
  "no_embeddings": Arm({"algo.nu_emb": 0.0}),
  "embeddings_alone": Arm({"algo.nu_aux": 0.0, "algo.nu_emb": 1.0}),
  "nu_aux_3": Arm({"algo.nu_aux": 3.0}),
  "nu_aux_10": Arm({"algo.nu_aux": 10.0}),
  "plus": Arm({"public_reuse": True}),
  "public_50": Arm({"public_limit": 50}),
  "public_150": Arm({"public_limit": 150}),
  "public_400": Arm({"public_limit": 400}),
  "iid": Arm(IID),
  "iid_separate": Arm(IID, "separate"),
  "iid_fedavg": Arm(IID | FEDAVG, "fedavg"),
  "iid_random": Arm(IID | {"algo.target": "random"}),
  "islands": Arm({"graph.kind": "islands"}),
  "complete": Arm({"graph.kind": "complete"}),
  "all_small": Arm(FOUR),
  "all_small_separate": Arm(FOUR, "separate"),
  "all_small_fedavg": Arm(FOUR | FEDAVG, "fedavg"),
}

Tasks = dict[str, tuple[str, ...]]
SETS: Tasks = {"tiny": ("digits",), "small": ("letter", "fashion_mnist", "cifar10")}
EVERYWHERE = SETS | {"gpu": ("cifar10_whole",)}
PUBLISHED = EVERYWHERE | {"paper": ("imagenet",)}  # what has the same heads there
CYCLES: Tasks = {
  "tiny": ("digits_cycle",),
  "small": ("fashion_cycle",),
  "paper": ("imagenet_topologies",),
}
MIXES: Tasks = {"tiny": ("digits_mixed",), "small": ("fashion_mixed",)}

SEPARATE, LAST = Quantity("separate", paper=25.1), Quantity("mhd", "aux3", paper=54.5)
AVERAGED = Quantity("fedavg", paper=68.0)
NEEDS = Control("an exchange has 10 points to give", Difference(AVERAGED, SEPARATE, above=10.0))
TEACHES = Control("distillation gives 5 points", Difference(LAST, SEPARATE, above=5.0))
SMALL_CNN = "a CNN of 8, 16 and 32 channels on 10,000 images of CIFAR-10"
TEACHES_LITTLE = {
  (
    "cifar10",
    NOT_TESTABLE,
  ): f"With {SMALL_CNN} the last head is 5.7 points above separate training, "
  "95 % interval 3.5 to 7.9: 5 points are not certain. What distillation does beyond them needs a "
  "network that learns more from it."
}
SKEWED = Control(
  "a client knows its own labels better by 10 points",
  Difference(Quantity("separate", metric=PRIVATE), SEPARATE, above=10.0),
)
IID_NEEDS = Control(
  "an exchange has a point to give where all clients are alike",
  Difference(Quantity("iid_fedavg", paper=70.5), Quantity("iid_separate", paper=46.3), above=1.0),
)
FAR = Control(
  "the first auxiliary head learns its direct teacher's classes: half of them and more",
  Difference(Quantity("mhd", "aux1", DISTANCE, distance=1), 50.0, above=0.0),
)
MIXED_NEEDS = Control(
  "an exchange has 5 points to give the small networks",
  Difference(Quantity("all_small_fedavg"), Quantity("all_small_separate"), above=5.0),
)


def own(arm: str, head: str = "main", paper: float | None = None) -> Quantity:
  """Accuracy on the client's own labels."""
  return Quantity(arm, head, PRIVATE, paper=paper)


def at(head: str, hops: int) -> Quantity:
  """Accuracy on the classes of the client so many hops away, on a cycle."""
  return Quantity("mhd", head, DISTANCE, distance=hops)
