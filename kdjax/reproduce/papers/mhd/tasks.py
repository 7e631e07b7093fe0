"""MHD: on what it is tried, and at which size."""

from typing import Any

from kdjax.reproduce.claims import Task

# Section 4.5's small and large networks; the embeddings are of one width.
SMALL = ("mlp", dict(hidden=(16, 32), activation="relu"))
LARGE = ("mlp", dict(hidden=(256, 256, 32), activation="relu"))
CNN = ("cnn", dict(widths=(8, 16, 32)))
RESNET_20 = ("cifar_resnet", dict(depth=20))
MIXED: dict[str, Any] = {"clients": ((3, *SMALL), (1, *LARGE)), "labels": 5}  # half of the labels


def resnets_18(stem: str) -> dict[str, Any]:
  """Four clients with a ResNet-18 each; the stem is for 'small' images or 'imagenet'."""
  return {"clients": ((4, "resnet", dict(depth=18, stem=stem)),)}


# Table 2's five architectures in place of ten, on FedMD's experiment.
WIDTHS = ((64, 64, 32), (128, 32), (32, 32), (256, 64, 32), (48, 48, 48, 32))
EACH_ITS_OWN = {"clients": tuple((1, "mlp", dict(hidden=w, activation="relu")) for w in WIDTHS)}

# The recipe for small machines on all of CIFAR-10: the rate grows with the batch. As above tested
# on training images: the official test set is not everywhere at hand as it was published.
WHOLE = {"clients": ((5, *RESNET_20),), "limit": 0, "holdout": 5_000, "steps": 20_000}
WHOLE |= {"batch": 64, "public_batch": 64, "optim.lr": 0.04}
# A quarter of the config's steps, with one teacher, for claims that compare many ways of training.
ONE = "mhd_cifar10_small:teachers=1,heads=3"
SHORT = {"clients": ((5, *CNN),), "holdout": 5_000, "steps": 2_000}

TASKS = (
  Task("digits", "mhd_digits", 0.4),
  Task("letter", "mhd_letter", 4.0, data="letter"),
  Task("fashion_mnist", "mhd_fashion_mnist", 5.0, data="fashion_mnist"),
  Task("cifar10", ONE, 12.0, SHORT, data="cifar10"),
  Task("cifar10_long", "mhd_cifar10_small:heads=3", 40.0, {"holdout": 5_000}, data="cifar10"),
  Task("cifar10_whole", ONE, 60.0, WHOLE, data="cifar10"),
  Task("tiny_imagenet", "mhd_tiny_imagenet", 240.0, resnets_18("small"), data="tiny_imagenet"),
  Task("digits_cycle", "mhd_digits_cycle:probe", 0.4),
  Task("fashion_cycle", "mhd_fashion_mnist_cycle:probe", 2.0, data="fashion_mnist"),
  Task("letter_cycle", "mhd_letter_cycle:probe", 3.0, data="letter"),
  Task("digits_mixed", "mhd_digits", 0.4, MIXED),
  Task("fashion_mixed", "mhd_fashion_mnist", 4.0, MIXED, data="fashion_mnist"),
  Task("tiny_imagenet_mixed", "mhd_tiny_imagenet", 300.0, data="tiny_imagenet"),
  Task("digits_fedmd", "fedmd_digits", 1.0, EACH_ITS_OWN),
  Task("fashion_fedmd", "fedmd_fashion_mnist", 8.0, EACH_ITS_OWN, data="fashion_mnist"),
  Task("imagenet", "mhd_imagenet", 3_500.0, data="imagenet"),
  Task("imagenet_topologies", "mhd_imagenet_topologies", 3_500.0, data="imagenet"),
  Task("imagenet_mixed", "mhd_imagenet_mixed", 4_400.0, data="imagenet"),
)

Tasks = dict[str, tuple[str, ...]]
SETS: Tasks = {"tiny": ("digits",), "small": ("letter", "fashion_mnist", "cifar10")}
PAPER: Tasks = {"paper": ("imagenet",)}
EVERYWHERE = SETS | {"gpu": ("cifar10_whole",)} | PAPER
MAIN = EVERYWHERE | {"gpu": ("cifar10_whole", "tiny_imagenet")}
LONG_RUNS: Tasks = {"small": ("letter", "fashion_mnist", "cifar10_long")}
DRAWN = SETS | PAPER
ONE_TEACHER = EVERYWHERE | {"small": ("fashion_mnist", "cifar10")}  # letters have three
CYCLES: Tasks = {
  "tiny": ("digits_cycle",),
  "small": ("fashion_cycle",),
  "paper": ("imagenet_topologies",),
}
LONG: Tasks = {"small": ("letter_cycle",)}  # thirteen clients and five heads: five hops
ALL_CYCLES = CYCLES | {"small": ("fashion_cycle", "letter_cycle")}
MIXES: Tasks = {
  "tiny": ("digits_mixed",),
  "small": ("fashion_mixed",),
  "gpu": ("tiny_imagenet_mixed",),
  "paper": ("imagenet_mixed",),
}
BESIDE_FEDMD: Tasks = {"tiny": ("digits_fedmd",), "small": ("fashion_fedmd",)}

# Public examples of each task; the private ones stay where fewer of them are used.
PUBLIC = {"digits": 431, "letter": 4_800, "fashion_mnist": 3_000, "cifar10": 3_000}
PUBLIC |= {"cifar10_whole": 13_500, "imagenet": 128_117}
