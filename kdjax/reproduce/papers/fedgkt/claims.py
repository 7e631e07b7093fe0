"""FedGKT: its claims, and what they need."""

from kdjax.reproduce.claims import Claim, Control, Difference
from kdjax.reproduce.papers.fedgkt.arms import CIFAR10, EASY, HARD, IID, SKEWED, WIDE, of

LEARNT = Control(
  "the task needs what the edges learn: trained above frozen edges",
  Difference(of("fedgkt"), of("frozen"), above=3.0),
  unmet={
    "digits": (
      "Under label skew edges that learn end 8.4 points below frozen ones (61.2 against 69.6): one "
      "server stands behind extractors that drift apart (`fedgkt.drift`). So nothing that passes "
      "between edges and server is needed here, and whatever came out could not judge the claim."
    )
  },
)
EXCHANGE = Control(
  "an exchange has something to give: FedAvg above separate training",
  Difference(of("fedavg"), of("separate"), above=3.0),
)
LARGE = Control(
  "the task needs the larger network: it is above the edge's, both on all data",
  Difference(of("central"), of("central_edge"), above=3.0),
)


def claim(name, where, says, tasks, *differences, controls=(LEARNT,)):
  """A claim, by default one about what passes between edges and server."""
  return Claim(name, where, says, tasks, differences, controls)


def above(left, right, by):
  """A difference of two arms."""
  return Difference(of(left), of(right), above=by)


CLAIMS = (
  claim(
    "fedavg_iid",
    "Table 1",
    "On IID data FedGKT is comparable with FedAvg of the large network.",
    IID,
    above("fedgkt", "fedavg", -1.5),
    controls=(LEARNT, EXCHANGE),
  ),
  claim(
    "fedavg_skewed",
    "Table 1",
    "On non-IID data FedGKT is comparable with FedAvg of the large network.",
    SKEWED,
    above("fedgkt", "fedavg", -1.5),
    controls=(LEARNT, EXCHANGE),
  ),
  claim(
    "central",
    "Table 1",
    "On IID data FedGKT is comparable with the large network trained on all data.",
    IID,
    above("fedgkt", "central", -1.5),
    controls=(LEARNT, LARGE),
  ),
  claim(
    "small_network",
    "Table 1",
    "FedGKT is above the edge's network trained on all data.",
    WIDE,
    above("fedgkt", "central_edge", 2),
    controls=(LARGE,),
  ),
  claim(
    "server_to_edge",
    "Table 2, Section 4.4",
    "Transfer from the server to the edge always helps.",
    IID,
    above("server_to_edge", "none", 1.0),
  ),
  claim(
    "diverges",
    "Table 2, Section 4.4",
    "Without any knowledge transfer training diverges: it falls 20 points and more below.",
    IID,
    above("server_to_edge", "none", 20.0),
  ),
  claim(
    "edge_to_server_easy",
    "Table 2",
    "On an easier set (CIFAR-10) transfer from the edge to the server costs accuracy.",
    EASY,
    above("server_to_edge", "both", 1.0),
  ),
  claim(
    "edge_to_server_hard",
    "Table 2, Section 4.4",
    "On a harder set (CIFAR-100) transfer from the edge to the server helps.",
    HARD,
    above("both", "server_to_edge", 0.5),
  ),
  claim(
    "asynchronous",
    "Table 3",
    "A server that at every arrival trains on all it holds, several times the work, is as accurate "
    "as one that waits for all.",
    IID,
    Difference(of("async"), of("fedgkt"), above=1.5, within=True),
  ),
  claim(
    "asynchronous_same_work",
    "Table 3",
    "A server that trains on what has just arrived, the same work as waiting, is as accurate as "
    "one that waits for all.",
    IID,
    Difference(of("async_arrived"), of("fedgkt"), above=1.5, within=True),
  ),
  claim(
    "asynchronous_skewed",
    "Section 4.4",
    "Asynchronous training, on all that the server holds, does not lower accuracy on non-IID data.",
    SKEWED,
    above("async", "fedgkt", -1.5),
  ),
  claim(
    "more_edges",
    "Table 4, Section 4.4",
    "More edges do not lower accuracy.",
    HARD,
    above("64_edges", "8_edges", -1.0),
    above("128_edges", "8_edges", -1.0),
  ),
  claim(
    "smaller_edges",
    "Table 5, Section 4.4",
    "Edge networks still smaller than ResNet-8 cost accuracy.",
    CIFAR10,
    above("fedgkt", "resnet_6", 1.0),
    above("resnet_6", "resnet_4", 0.5),
  ),
)
