"""Asynchronous edge learning: Lee, Yoo and Kwak, 2020."""

from kdjax.reproduce.claims import (
  Arm,
  Claim,
  Control,
  Curves,
  Difference,
  Lines,
  Paper,
  Quantity,
  Table,
  Task,
)
from kdjax.reproduce.verdict import NOT_TESTABLE, REFUTED

TEN: dict[str, tuple[str, ...]] = {
  "tiny": ("digits",),
  "small": ("fashion_mnist",),
  "paper": ("cifar100",),
}
THREE: dict[str, tuple[str, ...]] = {
  "tiny": ("digits_3",),
  "small": ("fashion_mnist_3",),
  "paper": ("cifar100_3",),
}
WHOLE = {"track": True}  # members, the first edge and the core before a distillation are tested


def algo(**settings):
  """Settings of the method."""
  return Arm({f"algo.{key}": value for key, value in (WHOLE | settings).items()})


VARIANTS = {  # Fig. 5: (init, models at an edge, rounds of memory, accuracy of the paper)
  "IsPP": ("scratch", 1, 1, 39.99),
  "IPP": ("independent", 1, 1, 44.97),
  "IEP": ("independent", 3, 1, 47.04),
  "IPM": ("independent", 1, 3, 49.05),
  "CPP": ("clone", 1, 1, 53.37),
  "CEP": ("clone", 3, 1, 54.26),
  "CPM": ("clone", 1, 3, 55.11),
  "CEM": ("clone", 3, 3, 56.67),
}
ARMS = {name: algo(init=init, ensemble=n, memory=M) for name, (init, n, M, _) in VARIANTS.items()}


def until(rounds, **settings):
  """CEM, ended after so many rounds."""
  return Arm(algo(**settings).settings | {"rounds": rounds})


WRONG = dict(noisy=(4, 7), noise=1.0)
ARMS |= {f"clean, {i}": until(i) for i in (3, 4, 5)}
ARMS |= {f"wrong, {i}": until(i, corruption="fixed", **WRONG) for i in (4, 5)}
ARMS["wrong anew, 4"] = until(4, corruption="batch", **WRONG)
ARMS["wrong"] = algo(corruption="fixed", **WRONG)
ARMS |= {
  "in time": until(2, arrivals=((1, 0), (2, 0))),
  "late": until(2, arrivals=((1, 0), (2, 1))),
  "omitted": until(1, arrivals=((1, 0),)),
}


def core(arm, paper=None):
  """Test accuracy of the core at the end."""
  return Quantity(arm, "core/main", paper=paper)


def variant(name):
  """A variant of Fig. 5."""
  return core(name, VARIANTS[name][-1])


def shared(arm, what="consensus", where="overlap_test"):
  """What the core and its last teacher get right together, and alone."""
  return Quantity(arm, what, where)


LEARNS = Control(
  "what edges know helps the core: the last round is above the third",
  Difference(core("CEM"), core("clean, 3"), above=1.0),
)
HARMS = Control(
  "an edge whose labels are wrong teaches less than one whose labels are right",
  Difference(Quantity("clean, 4", "edge/main"), Quantity("wrong, 4", "edge/main"), above=2.0),
)


WHY = {  # claim: ((task, verdict): why)
  "ensemble": {
    ("digits", REFUTED): (
      "Two clones of one core, trained on the same few digits, hardly differ: the ensemble at the "
      "edge is as good as its single member (claim members). So 'CEP' teaches what 'CPP' does."
    )
  },
  "members": {
    ("digits", REFUTED): (
      "The members begin as one core and see the same 140 digits, so that they err alike ('CEP', "
      "edge against member1). The paper's ResNets on 5,000 photographs have more to differ in."
    )
  },
  "attending": {
    ("digits", REFUTED): (
      "The first half holds: what both get right grows. But it grows at the cost of what the core "
      "alone got right ('CPP', exclusive before and after), as the core ends close to its teacher."
    )
  },
  "lag": {
    ("digits_3", NOT_TESTABLE): (
      "How much the second edge helps varies too much from seed to seed to be told from half a "
      "point ('in time' against 'omitted'). A late model lies between the two."
    )
  },
  "noisy_recovery": {
    ("digits", NOT_TESTABLE): (
      "One wrong edge costs the core little, and not surely a point ('clean, 4' against 'wrong, "
      "4'). So there is nothing to recover from."
    )
  },
  "noisy_memorised": {
    ("digits", NOT_TESTABLE): (
      "The core knows its own 140 digits by heart before any wrong edge comes ('clean, 4', overlap "
      "with the core's data). Its training accuracy has no room to jump."
    )
  },
  "noisy_end": {
    ("digits", REFUTED): (
      "Two wrong edges of nine hold a fifth of all digits ('wrong' against 'CEM'). Where each edge "
      "holds so few, none can be missed."
    )
  },
}


def claim(name, where, says, *differences, tasks=TEN, control=LEARNS, more=()):
  """A claim with a control, or more."""
  return Claim(name, where, says, tasks, differences, (control, *more), WHY.get(name, {}))


def above(left, right, by):
  """A difference of two quantities."""
  return Difference(left, right, above=by)


PAPER = Paper(
  name="async_edge",
  title="Lee, Yoo and Kwak: Asynchronous Edge Learning using Cloned Knowledge Distillation, 2020, "
  "https://arxiv.org/abs/2010.10338v1",
  tasks=(
    Task("digits", "async_edge_digits", 0.5),
    Task("fashion_mnist", "async_edge_fashion_mnist", 2.0, data="fashion_mnist"),
    Task(
      "digits_3",
      "async_edge_digits",
      0.3,
      {"clients": ((3, "mlp", dict(hidden=(64,), activation="relu")),), "limit": 60},
    ),
    Task(
      "fashion_mnist_3",
      "async_edge_fashion_mnist",
      1.0,
      {"clients": ((3, "mlp", dict(hidden=(128, 64), activation="relu")),), "limit": 900},
      data="fashion_mnist",
    ),
    Task("cifar100", "async_edge_cifar100", 3_000.0, data="cifar100"),
    Task(
      "cifar100_3",
      "async_edge_cifar100",
      1_500.0,
      {"clients": ((3, "cifar_resnet", dict(depth=32)),)},
      data="cifar100",
    ),
  ),
  arms=ARMS,
  claims=(
    claim(
      "clones",
      "Fig. 5",
      "Models cloned from the core teach it more than ones that trained there independently.",
      above(variant("CPP"), variant("IPP"), 2.0),
    ),
    claim(
      "trained_first",
      "Fig. 5",
      "An independent model that trained at the core teaches more than one that did not.",
      above(variant("IPP"), variant("IsPP"), 1.0),
    ),
    claim(
      "ensemble",
      "Fig. 5",
      "Several clones at an edge help the core.",
      above(variant("CEP"), variant("CPP"), 0.3),
    ),
    claim(
      "memory",
      "Fig. 5",
      "Models of earlier rounds help the core.",
      above(variant("CPM"), variant("CPP"), 0.5),
    ),
    claim(
      "all_together",
      "Fig. 5",
      "Clones, ensemble and memory together are best.",
      above(variant("CEM"), variant("CPP"), 1.0),
      above(variant("CEM"), variant("IPM"), 2.0),
    ),
    claim(
      "synergy",
      "Section 5.1",
      "Ensemble and memory together are above memory alone.",
      above(variant("CEM"), variant("CPM"), 0.3),
    ),
    claim(
      "members",
      "Section 5.1",
      "The ensemble at an edge is above its single members (43.8 against 40).",
      above(
        Quantity("CEP", "edge/main", paper=43.8), Quantity("CEP", "member1/main", paper=40), 1.0
      ),
    ),
    claim(
      "consensus",
      "Fig. 6b",
      "Core and teacher agree more on what they get right where the teacher is a clone.",
      above(shared("CPP"), shared("IPP"), 2.0),
    ),
    claim(
      "first_edge",
      "Fig. 6c, Section 5.1",
      "With memory the core of the last round agrees more with the first edge's models.",
      above(
        shared("CPM", where="overlap_test_first"), shared("CPP", where="overlap_test_first"), 0.5
      ),
    ),
    claim(
      "attending",
      "Fig. 4",
      "A distillation enlarges what a core and its cloned teacher get right together, and leaves "
      "what the core alone gets right nearly unchanged.",
      above(shared("CPP", "mutual"), shared("CPP", "mutual", "overlap_test_before"), 0.5),
      Difference(
        shared("CPP", "exclusive"),
        shared("CPP", "exclusive", "overlap_test_before"),
        above=1.5,
        within=True,
      ),
    ),
    claim(
      "edge_data",
      "Fig. 9",
      "A distillation raises the core's accuracy on data of the edge, which it never sees.",
      above(
        shared("CPP", "student", "overlap_edge"),
        shared("CPP", "student", "overlap_edge_before"),
        0.5,
      ),
    ),
    claim(
      "lag",
      "Fig. 7",
      "A model that comes late is better used than omitted.",
      above(core("late", 63.37), core("omitted", 62.65), 0.3),
      tasks=THREE,
      control=Control(
        "the second edge helps when it comes in time",
        above(core("in time", 64.25), core("omitted", 62.65), 0.5),
      ),
    ),
    claim(
      "noisy_drop",
      "Fig. 8a",
      "An edge whose labels are wrong lowers the core's accuracy.",
      above(core("clean, 4"), core("wrong, 4"), 1.0),
      control=HARMS,
    ),
    claim(
      "noisy_recovery",
      "Fig. 8a",
      "The next edge brings the core back, nearly to where it would have been.",
      above(core("wrong, 5"), core("clean, 5"), -1.5),
      control=Control(
        "there was something to recover from", above(core("clean, 4"), core("wrong, 4"), 1.0)
      ),
    ),
    claim(
      "noisy_memorised",
      "Fig. 8c",
      "The core's training accuracy jumps when its teacher memorised wrong labels.",
      above(
        shared("wrong, 4", "student", "overlap_core"),
        shared("clean, 4", "student", "overlap_core"),
        1.0,
      ),
      control=HARMS,
      more=(
        Control(
          "the core's training accuracy has room to rise: it is below 97",
          Difference(shared("clean, 4", "student", "overlap_core"), 50.0, above=47.0, within=True),
        ),
      ),
    ),
    claim(
      "noisy_end",
      "Fig. 8",
      "After all rounds two such edges have cost little.",
      above(core("wrong"), core("CEM"), -2.0),
      control=HARMS,
    ),
  ),
  figures=(
    Table(
      "variants",
      "Test accuracy of the core after the last round (Fig. 5)",
      ("core",),
      {name: (variant(name),) for name in VARIANTS},
      TEN,
    ),
    Curves(
      "rounds",
      "Test accuracy of the core (Fig. 5)",
      "test accuracy",
      {name: (name, "shared_accuracy/core/main") for name in VARIANTS},
      TEN,
    ),
    Curves(
      "consensus_rounds",
      "Prediction consensus of core and teacher (Fig. 6b)",
      "consensus",
      {name: (name, "overlap_test/consensus") for name in ("IPP", "IPM", "CPP", "CPM")},
      TEN,
    ),
    Curves(
      "intersection_rounds",
      "Prediction intersection of core and teacher (Fig. 6a)",
      "share of test images",
      {name: (name, "overlap_test/mutual") for name in ("IPP", "IPM", "CPP", "CPM")},
      TEN,
    ),
    Curves(
      "first_edge_rounds",
      "Prediction intersection of the core and the first edge (Fig. 6c)",
      "share of test images",
      {name: (name, "overlap_test_first/mutual") for name in ("IPP", "IPM", "CPP", "CPM")},
      TEN,
    ),
    Curves(
      "noise",
      "Test accuracy of the core, the fourth and seventh edge wrong (Fig. 8a)",
      "test accuracy",
      {name: (name, "shared_accuracy/core/main") for name in ("CEM", "wrong")},
      TEN,
    ),
    Curves(
      "noise_training",
      "Training accuracy of the core, the fourth and seventh edge wrong (Fig. 8c)",
      "training accuracy",
      {name: (name, "train_accuracy") for name in ("CEM", "wrong")},
      TEN,
    ),
    Lines(
      "lag_cases",
      "A late edge (Fig. 7)",
      ("omitted", "in time", "late"),
      "",
      "test accuracy %",
      {"core": (core("omitted", 62.65), core("in time", 64.25), core("late", 63.37))},
      THREE,
    ),
  ),
)
