"""Pairwise transfer: on what it is tried, the ways of training, and what the paper reports."""

from typing import Any

from kdjax.reproduce.claims import Arm, Quantity, Task

SMALL: dict[str, tuple[str, ...]] = {
  "tiny": ("digits",),
  "small": ("fashion_mnist",),
  "paper": ("cifar10",),
}
FACES: dict[str, tuple[str, ...]] = {"paper": ("celeba",)}
LOCAL = 2  # the paper's local agent; 0 and 1 are the remote ones

TASKS = (
  Task("digits", "pairwise_digits", 0.5),
  Task("fashion_mnist", "pairwise_fashion_mnist", 3.0, data="fashion_mnist"),
  # Tested on training images: the official test set is not everywhere at hand as it was published.
  Task("cifar10", "pairwise_cifar10", 600.0, {"holdout": 5_000}, data="cifar10"),
  # Arrays are of the right size already, 64 x 64; a folder of files is resized.
  Task("celeba", "pairwise_celeba", 7_000.0, {"source_info.resize": False}, data="celeba"),
)

# Maps that live on are applied anew in every round, and what they do compounds: a tenth of the
# digits' rate, and the rate of the others.
KEPT: dict[str, Any] = {"algo.maps": "kept", "algo.transfer_optim.lr": 1e-5}
PRINTED = {"algo.variant": "algorithm1", "algo.write": "batch", "algo.local_epochs": 0}
READINGS = {  # of what the paper leaves open, or says in two ways
  "start 0.1, head": Arm({"algo.layers": ("heads/main",), "algo.start": 0.1}),
  "maps kept": Arm(KEPT),
  "Eq. 1": Arm({"algo.variant": "eq1"}),
  # Every batch is a local step too: two epochs of it are as many batches as a round of the others.
  "Algorithm 1": Arm(KEPT | PRINTED | {"algo.transfer_epochs": 2}),
  "KL reversed": Arm({"algo.divergence": "target"}),
  "single source": Arm({"algo.sources": 1}),
}
ARMS = {
  "pairwise": Arm(),
  "no transfer": Arm({"graph.kind": "none"}),  # the same rounds, nobody learns from anybody
  "zeroed sources": Arm({"algorithm": "pairwise:ZEROED"}),
  "random sources": Arm({"algorithm": "pairwise:RANDOM"}),
  "kd": Arm(words="kd"),
  "fedavg": Arm(words="fedavg"),
  "gossip": Arm(words="gossip"),  # averaging, which the paper does not have
  "gossip, ADMM": Arm({"algo.variant": "admm"}, "gossip"),
  "full mesh": Arm({"graph.edges": ((2, 0), (2, 1), (1, 0), (1, 2))}),
  "transitive": Arm({"graph.edges": ((1, 0), (2, 1))}),
  "as coded": Arm({"algo.variant": "as_coded", "algo.layers": ("heads/main",)}),
  **READINGS,
}

KINDS = ("local", "remote", "combined")
REPORTED = {  # percent, by KINDS: Tables 1 and 6; without transfer counted from Tables 2 and 9
  "no transfer": {"cifar10": (95.2, 44.9, 65.0), "fashion_mnist": (93.3, 59.8, 73.2)},
  "pairwise": {"cifar10": (95.0, 60.0, 77.0), "fashion_mnist": (93.0, 67.0, 77.0)},
  "kd": {"cifar10": (96.0, 50.0, 71.0), "fashion_mnist": (92.0, 64.0, 75.0)},
  "gossip, ADMM": {"cifar10": (63.0, 52.0, 56.0), "fashion_mnist": (64.0, 66.0, 65.0)},
  "fedavg": {"cifar10": (70.0, 66.0, 68.0), "fashion_mnist": (76.0, 76.0, 76.0)},
  "full mesh": {"cifar10": (93.0, 61.0, 74.0)},
  "transitive": {"cifar10": (97.0, 56.0, 72.0)},
}


def reported(arm: str, kind: str) -> dict[str, float] | None:
  """{task: percent}; beside digits, which the paper does not have, its numbers of CIFAR-10."""
  if kind not in KINDS or arm not in REPORTED:
    return None
  found = {task: row[KINDS.index(kind)] for task, row in REPORTED[arm].items()}
  return found | {"digits": found["cifar10"]}


def of(arm: str, kind: str) -> Quantity:
  """Accuracy of the local agent: local, remote, among_remote, combined; after an offset, too."""
  return Quantity(arm, "main", f"{kind}_accuracy", (LOCAL,), paper=reported(arm, kind))
