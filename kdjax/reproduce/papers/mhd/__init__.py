"""MHD: Zhmoginov et al., Decentralized Learning with Multi-Headed Distillation, CVPR 2023.

Clients with two primary labels each and s = 100 stand for the paper's eight with 250 of 1,000;
three auxiliary heads where it has four. `paper` are its numbers on ImageNet, in Table 2 on
CIFAR-100.
"""

from kdjax.reproduce.claims import Paper, explained
from kdjax.reproduce.papers.mhd.arms import ARMS
from kdjax.reproduce.papers.mhd.drawings import FIGURES
from kdjax.reproduce.papers.mhd.explanations import WHY
from kdjax.reproduce.papers.mhd.losses import DATA, LOSSES
from kdjax.reproduce.papers.mhd.targets import HEADS, IID_HEADS, TARGETS
from kdjax.reproduce.papers.mhd.tasks import TASKS
from kdjax.reproduce.papers.mhd.topologies import HETEROGENEOUS, TABLE_2, TOPOLOGY

CLAIMS = (*HEADS, *IID_HEADS, *TARGETS, *LOSSES, *DATA, *TOPOLOGY, *HETEROGENEOUS, *TABLE_2)

PAPER = Paper(
  name="mhd",
  title=(
    "Zhmoginov et al.: Decentralized Learning with Multi-Headed Distillation, CVPR 2023, "
    "https://arxiv.org/abs/2211.15774"
  ),
  tasks=TASKS,
  arms=ARMS,
  claims=explained(CLAIMS, WHY),
  figures=FIGURES,
)
