"""FedGKT: He, Annavaram and Avestimehr, NeurIPS 2020.

Tables 2 to 5 of the paper are IID experiments; only Table 1 has a non-IID split too. Frozen edges
are the control wherever a claim is about what edges learn: where they come as far, it needs none.
"""

from kdjax.reproduce.claims import (
  Arm,
  Claim,
  Control,
  Costs,
  Curves,
  Difference,
  Paper,
  Quantity,
  Table,
  Task,
)

FAST = {"partition": "equal", "optim.lr": 3e-3}  # edges may learn fast where all data are alike

IID = {
  "tiny": ("digits_iid",),
  "small": ("fashion_mnist_iid", "cifar10_iid"),
  "gpu": ("cifar10_whole_iid",),
  "paper": ("cifar10_published_iid",),
}
SKEWED = {
  "tiny": ("digits",),
  "small": ("fashion_mnist", "cifar10"),
  "gpu": ("cifar10_whole",),
  "paper": ("cifar10_published",),
}
EVERYWHERE = {size: IID[size] + SKEWED[size] for size in IID}

GKT = Quantity("fedgkt")
LEARNT = Control(
  "the task needs what the edges learn: trained above frozen edges",
  Difference(GKT, Quantity("frozen"), above=3.0),
)
EXCHANGE = Control(
  "an exchange has something to give: FedAvg above separate training",
  Difference(Quantity("fedavg"), Quantity("separate"), above=3.0),
)
LARGE = Control(
  "the task needs the larger network: it is above the edge's, both on all data",
  Difference(Quantity("central"), Quantity("central_edge"), above=3.0),
)

# Why nothing of what edges learn can be judged on digits.
FROZEN = {
  ("digits_iid", "not testable here"): (
    "Edges that never learn come as far (98.5 ± 0.6) as those that do (97.8 ± 0.6): on 8 x 8 "
    "pixels the server learns from random features all there is. A claim about what passes "
    "between edges and server needs a task whose features must be learnt."
  ),
  ("digits", "not testable here"): (
    "Under label skew edges that learn end 14.0 points below frozen ones (84.5 against 98.5): one "
    "server stands behind extractors that drift apart (`fedgkt.drift`). So nothing that passes "
    "between edges and server is needed here, and whatever came out could not judge the claim."
  ),
}

PAPER = Paper(
  name="fedgkt",
  title=(
    "He, Annavaram, Avestimehr: Group Knowledge Transfer: Federated Learning of Large CNNs at the "
    "Edge, NeurIPS 2020, https://arxiv.org/abs/2007.14513"
  ),
  tasks=(
    Task("digits", "fedgkt_digits", 0.8),
    Task("digits_iid", "fedgkt_digits", 0.8, {"partition": "equal"}),
    Task("fashion_mnist", "fedgkt_fashion_mnist", 6.0, {}, "fashion_mnist"),
    Task("fashion_mnist_iid", "fedgkt_fashion_mnist", 6.0, FAST, "fashion_mnist"),
    Task("cifar10", "fedgkt_cifar10_small", 7.0, {}, "cifar10"),
    Task("cifar10_iid", "fedgkt_cifar10_small", 7.0, FAST, "cifar10"),
    Task("cifar10_whole", "fedgkt_cifar10_small", 15.0, {"limit": 0, "rounds": 30}, "cifar10"),
    Task(
      "cifar10_whole_iid",
      "fedgkt_cifar10_small",
      15.0,
      {"limit": 0, "rounds": 30} | FAST,
      "cifar10",
    ),
    Task("cifar10_published", "fedgkt_cifar10", 6_000.0, {}, "cifar10"),
    Task("cifar10_published_iid", "fedgkt_cifar10_iid", 3_000.0, {}, "cifar10"),
    Task("cifar100_published_iid", "fedgkt_cifar100", 3_000.0, {}, "cifar100"),
  ),
  arms={
    "fedgkt": Arm(),
    "frozen": Arm({"optim.lr": 0.0}),
    "none": Arm({"algo.edge_distils": False, "algo.server_distils": False}),
    "server_to_edge": Arm({"algo.edge_distils": True, "algo.server_distils": False}),
    "both": Arm({"algo.edge_distils": True, "algo.server_distils": True}),
    "async": Arm({"algo.arrivals": 1, "algo.trains_on": "all"}),
    "fedavg": Arm(words="fedavg"),
    "separate": Arm(words="separate"),
    "central": Arm(words="supervised"),
    "central_edge": Arm(words="supervised,network=edge"),
  },
  claims=(
    Claim(
      "fedavg_iid",
      "Table 1",
      "On IID data FedGKT is comparable with FedAvg of the large network.",
      IID,
      (Difference(Quantity("fedgkt", paper=92.97), Quantity("fedavg", paper=92.88), above=-1.5),),
      (LEARNT, EXCHANGE),
      explained=FROZEN,
    ),
    Claim(
      "fedavg_skewed",
      "Table 1",
      "On non-IID data FedGKT is comparable with FedAvg of the large network.",
      SKEWED,
      (Difference(Quantity("fedgkt", paper=86.59), Quantity("fedavg", paper=86.60), above=-1.5),),
      (LEARNT, EXCHANGE),
      explained=FROZEN,
    ),
    Claim(
      "central",
      "Table 1",
      "On IID data FedGKT is comparable with the large network trained on all data.",
      IID,
      (Difference(Quantity("fedgkt", paper=92.97), Quantity("central", paper=93.05), above=-1.5),),
      (LEARNT, LARGE),
      explained=FROZEN,
    ),
    Claim(
      "small_network",
      "Table 1",
      "FedGKT is above the edge's network trained on all data.",
      IID,
      (
        Difference(Quantity("fedgkt", paper=92.97), Quantity("central_edge", paper=78.94), above=2),
      ),
      (LARGE,),
    ),
    Claim(
      "server_to_edge",
      "Table 2, Section 4.4",
      "Transfer from the server to the edge always helps.",
      IID | {"paper": ("cifar10_published_iid", "cifar100_published_iid")},
      (Difference(Quantity("server_to_edge", paper=92.97), Quantity("none"), above=1.0),),
      (LEARNT,),
      explained=FROZEN,
    ),
    Claim(
      "diverges",
      "Table 2, Section 4.4",
      "Without any knowledge transfer training diverges: it falls 20 points and more below.",
      IID | {"paper": ("cifar10_published_iid", "cifar100_published_iid")},
      (Difference(Quantity("server_to_edge", paper=92.97), Quantity("none"), above=20.0),),
      (LEARNT,),
      explained=FROZEN,
    ),
    Claim(
      "edge_to_server_easy",
      "Table 2",
      "On an easier set (CIFAR-10) transfer from the edge to the server costs accuracy.",
      IID,
      (
        Difference(
          Quantity("server_to_edge", paper=92.97), Quantity("both", paper=90.53), above=1.0
        ),
      ),
      (LEARNT,),
      explained=FROZEN,
    ),
    Claim(
      "edge_to_server_hard",
      "Table 2, Section 4.4",
      "On a harder set (CIFAR-100) transfer from the edge to the server helps.",
      {"paper": ("cifar100_published_iid",)},
      (
        Difference(
          Quantity("both", paper=69.57), Quantity("server_to_edge", paper=68.44), above=0.5
        ),
      ),
      (LEARNT,),
      explained=FROZEN,
    ),
    Claim(
      "asynchronous",
      "Table 3",
      "A server that starts with whoever arrives is as accurate as one that waits for all.",
      IID,
      (
        Difference(
          Quantity("async", paper=92.92), Quantity("fedgkt", paper=92.97), above=1.5, within=True
        ),
      ),
      (LEARNT,),
      explained=FROZEN,
    ),
    Claim(
      "asynchronous_skewed",
      "Section 4.4",
      "Asynchronous training does not negatively affect accuracy, on non-IID data neither.",
      SKEWED,
      (Difference(Quantity("async"), GKT, above=-1.5),),
      (LEARNT,),
      explained=FROZEN,
    ),
  ),
  figures=(
    Table(
      "accuracy",
      "Accuracy (Table 1, CIFAR-10, ResNet-56, IID)",
      ("FedGKT", "FedAvg", "centralised, large", "centralised, edge's", "edges frozen"),
      {
        "accuracy": (
          Quantity("fedgkt", paper=92.97),
          Quantity("fedavg", paper=92.88),
          Quantity("central", paper=93.05),
          Quantity("central_edge", paper=78.94),
          Quantity("frozen"),
        )
      },
      IID,
    ),
    Table(
      "accuracy_skewed",
      "Accuracy (Table 1, CIFAR-10, ResNet-56, non-IID)",
      ("FedGKT", "FedAvg", "edges alone", "edges frozen"),
      {
        "accuracy": (
          Quantity("fedgkt", paper=86.59),
          Quantity("fedavg", paper=86.60),
          Quantity("separate"),
          Quantity("frozen"),
        )
      },
      SKEWED,
    ),
    Table(
      "losses",
      "Who learns from whom (Table 2, CIFAR-10)",
      ("none", "only S->E", "both"),
      {
        "accuracy": (
          Quantity("none"),
          Quantity("server_to_edge", paper=92.97),
          Quantity("both", paper=90.53),
        )
      },
      IID,
    ),
    Curves(
      "drift",
      "Drift of the extractors over a run",
      "distance from the mean / its norm",
      {"FedGKT": ("fedgkt", "drift"), "both teach": ("both", "drift"), "none": ("none", "drift")},
      EVERYWHERE,
    ),
    Costs(
      "flops",
      "Accuracy against the work of an edge (Fig. 4)",
      "flops.edge",
      "FLOPs of an edge over the run",
      "shared accuracy, %",
      {"FedGKT": GKT, "FedAvg": Quantity("fedavg")},
      EVERYWHERE,
    ),
    Costs(
      "bytes",
      "Accuracy against bytes (Fig. 5)",
      "bytes_sent",
      "bytes sent",
      "shared accuracy, %",
      {"FedGKT": GKT, "asynchronous": Quantity("async"), "FedAvg": Quantity("fedavg")},
      EVERYWHERE,
    ),
  ),
)
