"""Asynchronous edge learning: Lee, Yoo and Kwak, 2020."""

from kdjax.reproduce.claims import Paper, explained
from kdjax.reproduce.papers.async_edge.arms import ARMS, TASKS
from kdjax.reproduce.papers.async_edge.claims import CLAIMS
from kdjax.reproduce.papers.async_edge.drawings import FIGURES
from kdjax.reproduce.papers.async_edge.explanations import WHY

PAPER = Paper(
  name="async_edge",
  title="Lee, Yoo and Kwak: Asynchronous Edge Learning using Cloned Knowledge Distillation, 2020, "
  "https://arxiv.org/abs/2010.10338v1",
  tasks=TASKS,
  arms=ARMS,
  claims=explained(CLAIMS, WHY),
  figures=FIGURES,
)
