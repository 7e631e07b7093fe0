"""FedGKT: He, Annavaram and Avestimehr, NeurIPS 2020.

Tables 2 to 5 of the paper are IID experiments; only Table 1 has a non-IID split too. Frozen edges
are the control wherever a claim is about what edges learn: where they come as far, it needs none.

What an edge saves in work and parameters is counted, not trained: tests/models/gkt_models_test.py.
"""

from kdjax.reproduce.claims import Paper, explained
from kdjax.reproduce.papers.fedgkt.arms import ARMS, TASKS
from kdjax.reproduce.papers.fedgkt.claims import CLAIMS
from kdjax.reproduce.papers.fedgkt.drawings import FIGURES
from kdjax.reproduce.papers.fedgkt.explanations import WHY

PAPER = Paper(
  name="fedgkt",
  title=(
    "He, Annavaram, Avestimehr: Group Knowledge Transfer: Federated Learning of Large CNNs at the "
    "Edge, NeurIPS 2020, https://arxiv.org/abs/2007.14513"
  ),
  tasks=TASKS,
  arms=ARMS,
  claims=explained(CLAIMS, WHY),
  figures=FIGURES,
)
