"""Async edge learning: the claims."""

from kdjax.reproduce.claims import Claim, Control, Difference, Quantity, above
from kdjax.reproduce.papers.async_edge.arms import (
  HARMS,
  LEARNS,
  ROOM,
  TEN,
  THREE,
  core,
  harms,
  shared,
  variant,
)


def claim(name, where, says, *differences, tasks=TEN, control=LEARNS, more=()):
  """A claim with a control, or more."""
  return Claim(name, where, says, tasks, differences, (control, *more))


CLAIMS = (
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
    "ensemble_independent",
    "Section 5.1",
    "Several independent models at an edge do not help the core, though they are better than one.",
    above(variant("IPP"), variant("IEP"), -0.3),
    more=(
      Control(
        "the ensemble at an edge is above its single members",
        above(Quantity("IEP", "edge/main"), Quantity("IEP", "member1/main"), 1.0),
      ),
    ),
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
    above(Quantity("CEP", "edge/main", paper=43.8), Quantity("CEP", "member1/main", paper=40), 1.0),
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
    more=(ROOM,),
  ),
  claim(
    "noisy_anew",
    "Fig. 8a, Section 5.3",
    "So does one whose labels are shuffled anew in every batch, as the paper's text has it.",
    above(core("clean, 4"), core("wrong anew, 4"), 1.0),
    control=harms("wrong anew, 4"),
  ),
  claim(
    "noisy_kinds",
    "Section 5.3",
    "The core's training accuracy jumps by what its teacher memorised: more under labels that stay "
    "wrong than under labels shuffled anew.",
    above(
      shared("wrong, 4", "student", "overlap_core"),
      shared("wrong anew, 4", "student", "overlap_core"),
      1.0,
    ),
    control=HARMS,
    more=(ROOM,),
  ),
  claim(
    "noisy_end",
    "Fig. 8",
    "After all rounds two such edges have cost little.",
    above(core("wrong"), core("CEM"), -2.0),
    control=HARMS,
  ),
)
