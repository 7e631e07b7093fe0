"""FedMD: Li and Wang, 2019; and what Zhmoginov et al., CVPR 2023, Table 2, say of it.

Five clients of five architectures, two primary labels each and s = 100, stand for ten networks
whose clients hold one fine class of each of CIFAR-100's superclasses, as at size paper. There alone
public labels are used, and a client holds something of every label, so that private is shared.
`paper` are the numbers of Zhmoginov et al. on CIFAR-100.
"""

from kdjax.reproduce.claims import (
  Arm,
  Claim,
  Control,
  Costs,
  Difference,
  Paper,
  Quantity,
  Table,
  Task,
  alone,
)
from kdjax.reproduce.papers.mhd.tasks import EACH_ITS_OWN

TASKS = (
  Task("digits", "fedmd_digits", 1.0, EACH_ITS_OWN),
  Task("fashion_mnist", "fedmd_fashion_mnist", 8.0, EACH_ITS_OWN, data="fashion_mnist"),
  # The public CIFAR-10 is the config's: `cifar-10-batches-bin` where the command is run.
  Task("cifar100", "fedmd_cifar100", 300.0, data="cifar100_coarse"),
)
SMALL: dict[str, tuple[str, ...]] = {"tiny": ("digits",), "small": ("fashion_mnist",)}
SETS = SMALL | {"paper": ("cifar100",)}

FEDMD, SEPARATE = Quantity("fedmd", paper=50.2), Quantity("separate")
POOLED, MHD = Quantity("pooled", paper=56.5), Quantity("mhd", "aux3", paper=57.0)
NEEDS = Control("pooled data give 10 points", Difference(POOLED, SEPARATE, above=10.0))

PAPER = Paper(
  name="fedmd",
  title=(
    "Li and Wang: FedMD: Heterogenous Federated Learning via Model Distillation, 2019, "
    "https://arxiv.org/abs/1910.03581"
  ),
  tasks=TASKS,
  arms={
    "fedmd": Arm(),
    "separate": Arm(words="separate"),
    "pooled": Arm(words="supervised", by_task=alone(TASKS)),
    "mhd": Arm(words="mhd"),
  },
  claims=(
    Claim(
      "collaboration",
      "Abstract, Fig. 3",
      "Clients of different architectures gain far more than what is possible alone.",
      SETS,
      (Difference(FEDMD, SEPARATE, above=10.0),),
      (NEEDS,),
      explained={
        ("fashion_mnist", "refuted"): (
          "The gain is 8.4 points. Since a quarter of the run the clients stand between 57 and 64: "
          "more rounds would hardly raise it. The mean of their predictions, on which they "
          "agree, is right for 74.7 % of the test images, and they do not come near it."
        )
      },
    ),
    Claim(
      "near_pooled",
      "Abstract, Fig. 3",
      "They end only a few percent below a network that is trained on all private data.",
      SETS,
      (Difference(FEDMD, POOLED, above=-5.0),),
      (NEEDS,),
      explained={
        ("digits", "refuted"): (
          "FedMD ends at 84.2 where pooled data give 96.3 and separate training 38.7. The paper's "
          "clients hold something of every class that is asked for, here each holds two of ten."
        ),
        ("fashion_mnist", "refuted"): (
          "FedMD ends at 61.1, pooled data give 83.6 and separate training 52.7. Even the mean "
          "prediction of all clients is right for 74.7 % only: each was taught two classes of ten."
        ),
      },
    ),
    Claim(
      "below_mhd",
      "Zhmoginov et al., Table 2",
      "On the same architectures and data, each with its own norm and optimiser, MHD's last head "
      "ends above FedMD.",
      SETS,
      (Difference(MHD, FEDMD, above=2.0),),
      (NEEDS,),
      explained={
        ("digits", "refuted"): (
          "With as many passes over its data FedMD ends at 84.2, MHD's last head at 66.8; on one "
          "network for all it is the same order (92.9 against 82.7, table methods). The paper's is "
          "of 20 superclasses of CIFAR-100, of each of which every client holds a part."
        )
      },
    ),
    Claim(
      "keeps_its_own",
      "Algorithm 1",
      "Learning from consensus costs a client nothing of what it knows of its own labels, which it "
      "revisits.",
      SMALL,
      (
        Difference(
          Quantity("fedmd", metric="private_accuracy"),
          Quantity("separate", metric="private_accuracy"),
          above=-1.5,
        ),
      ),
      (NEEDS,),
    ),
  ),
  figures=(
    Table(
      "table2",
      "Mean test accuracy (Zhmoginov et al., Table 2; at size paper private is shared)",
      ("shared", "private"),
      {
        "FedMD": (FEDMD, Quantity("fedmd", metric="private_accuracy")),
        "MHD": (MHD, Quantity("mhd", "main", "private_accuracy")),
        "pooled": (POOLED, None),
        "separate": (SEPARATE, Quantity("separate", metric="private_accuracy")),
      },
      SETS,
    ),
    Costs(
      "bytes",
      "Shared accuracy against what was sent",
      "bytes_sent",
      "bytes sent",
      "shared accuracy, %",
      {"FedMD": FEDMD, "MHD": MHD},
      SETS,
    ),
  ),
)
