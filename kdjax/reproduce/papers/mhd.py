"""MHD: Zhmoginov et al., CVPR 2023."""

from kdjax.reproduce.claims import Arm, Claim, Control, Difference, Paper, Quantity, Task

PAPER = Paper(
  name="mhd",
  title="Zhmoginov et al.: Decentralized Learning with Multi-Headed Distillation, CVPR 2023",
  tasks=(Task("digits", "mhd_digits", 0.4),),
  arms={"mhd": Arm(), "separate": Arm(words="separate"), "fedavg": Arm(words="fedavg")},
  claims=(
    Claim(
      "heads",
      "Table 1",
      "The last auxiliary head knows more of what others hold than a client that learns alone.",
      {"tiny": ("digits",)},
      (
        Difference(
          Quantity("mhd", "aux3", paper=54.5), Quantity("separate", paper=25.1), above=10.0
        ),
      ),
      (
        Control(
          "an exchange has something to give",
          Difference(Quantity("fedavg"), Quantity("separate"), above=10.0),
        ),
      ),
    ),
  ),
)
