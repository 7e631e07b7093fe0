"""Pairwise transfer: Goldstein, Kachuee, Shiell and Sarrafzadeh, 2020."""

from kdjax.reproduce.claims import Paper, explained
from kdjax.reproduce.papers.pairwise.arms import ARMS, TASKS
from kdjax.reproduce.papers.pairwise.claims import CLAIMS
from kdjax.reproduce.papers.pairwise.drawings import FIGURES
from kdjax.reproduce.papers.pairwise.explanations import WHY

PAPER = Paper(
  name="pairwise",
  title="Goldstein, Kachuee, Shiell and Sarrafzadeh: Real-Time Decentralized Knowledge Transfer at "
  "the Edge, 2020, https://arxiv.org/abs/2011.05961",
  tasks=TASKS,
  arms=ARMS,
  claims=explained(CLAIMS, WHY),
  figures=FIGURES,
)
