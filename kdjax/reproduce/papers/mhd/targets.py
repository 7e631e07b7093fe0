"""MHD: claims about auxiliary heads and what they learn from, Sections 4.2.1 and 4.2.2."""

from kdjax.reproduce.claims import Claim, Control, Difference, Quantity
from kdjax.reproduce.papers.mhd.arms import (
  IID_LAST,
  IID_NEEDS,
  IID_SEPARATE,
  LAST,
  NEEDS,
  SEPARATE,
  SKEWED,
  TEACHES,
  last,
  own,
)
from kdjax.reproduce.papers.mhd.tasks import EVERYWHERE, LONG_RUNS, MAIN, ONE_TEACHER

HEADS = (
  Claim(
    "heads",
    "Table 1",
    "The last auxiliary head knows more of what others hold than a client that learns alone.",
    MAIN | LONG_RUNS,
    (Difference(LAST, SEPARATE, above=10.0),),
    (NEEDS,),
  ),
  Claim(
    "heads_grow",
    "Section 4.2.2, Fig. 4",
    "Where data are skewed, shared accuracy grows from head to head.",
    MAIN | LONG_RUNS,
    tuple(
      Difference(Quantity("mhd", after), Quantity("mhd", before), above=0.5)
      for before, after in (("main", "aux1"), ("aux1", "aux2"), ("aux2", "aux3"))
    ),
    (NEEDS,),
  ),
  Claim(
    "main_is_private",
    "Section 4.2.2, Fig. 4",
    "The main head is the best one on a client's own labels; later heads lose private accuracy.",
    MAIN | LONG_RUNS,
    tuple(
      Difference(own("mhd", before), own("mhd", after), above=0.5)
      for before, after in (("main", "aux1"), ("aux1", "aux2"), ("aux2", "aux3"))
    ),
    (SKEWED,),
  ),
  Claim(
    "main_keeps",
    "Section 4.2.1",
    "Distillation does not harm what the main head knows of its own labels.",
    EVERYWHERE | LONG_RUNS,
    (Difference(own("mhd"), own("separate"), above=-1.5),),
    (TEACHES,),
  ),
  Claim(
    "main_gains",
    "Section 4.2.1, Fig. 3",
    "Auxiliary heads improve the main head on the client's own labels, through the embedding.",
    EVERYWHERE | LONG_RUNS,
    (Difference(own("mhd"), own("separate"), above=0.5),),
    (TEACHES,),
  ),
  Claim(
    "many_heads",
    "Section 4.2.2, Fig. 4",
    "More auxiliary heads raise the shared accuracy of the last one.",
    MAIN,
    (
      Difference(last("two_heads"), last("one_head", 44.7), above=0.5),
      Difference(last("four_heads", 54.5), last("one_head", 44.7), above=2.0),
    ),
    (NEEDS,),
  ),
)

IID_HEADS = (
  Claim(
    "iid",
    "Table 1",
    "Where all clients are alike the auxiliary heads know more than clients that learn alone.",
    MAIN,
    (Difference(IID_LAST, IID_SEPARATE, above=1.0),),
    (IID_NEEDS,),
  ),
  Claim(
    "iid_auxiliary",
    "Sections 4.2.1 and 4.2.2, Fig. 4",
    "Where all clients are alike an auxiliary head is better than the main one.",
    EVERYWHERE,
    (Difference(Quantity("iid", "aux2"), Quantity("iid", "main"), above=0.3),),
    (IID_NEEDS,),
  ),
  Claim(
    "iid_second_head",
    "Section 4.2.2, Fig. 4",
    "Where all clients are alike the second auxiliary head is the best one.",
    EVERYWHERE,
    (
      Difference(Quantity("iid", "aux2"), Quantity("iid", "aux1"), above=0.0),
      Difference(Quantity("iid", "aux2"), Quantity("iid", "aux3"), above=0.0),
    ),
    (IID_NEEDS,),
  ),
  Claim(
    "iid_three_heads",
    "Section 4.2.2, Fig. 4",
    "Where all clients are alike up to three auxiliary heads help every head; a fourth does not.",
    EVERYWHERE,
    (
      Difference(Quantity("iid", "main"), Quantity("iid_one_head", "main"), above=0.0),
      Difference(Quantity("iid", "aux1"), Quantity("iid_one_head", "aux1"), above=0.0),
      Difference(IID_LAST, last("iid_four_heads"), above=0.0),
    ),
    (IID_NEEDS,),
  ),
)

TARGETS = (
  Claim(
    "gate",
    "Section 4.2.2",
    "The most confident candidate teaches better than a random one where data are skewed.",
    MAIN,
    (Difference(LAST, last("random", 49.0), above=2.0),),
    (TEACHES,),
  ),
  Claim(
    "gate_main",
    "Section 4.2.2",
    "Random targets harm the main head on its own labels.",
    EVERYWHERE,
    (Difference(own("mhd", paper=72.1), own("random", paper=71.3), above=0.3),),
    (TEACHES,),
  ),
  Claim(
    "gate_iid",
    "Section 4.2.2",
    "Where all clients are alike the most confident candidate is still better than a random one.",
    EVERYWHERE,
    (Difference(last("iid", 59.5), last("iid_random", 58.4), above=0.5),),
    (IID_NEEDS,),
  ),
  Claim(
    "delta",
    "Section 4.2.2",
    "Three teachers a step in place of one raise the last head's shared accuracy.",
    ONE_TEACHER,
    (Difference(last("three_teachers", 56.4), LAST, above=1.0),),
    (TEACHES,),
  ),
  Claim(
    "delta_main",
    "Section 4.2.2",
    "Three teachers a step have virtually no effect on the main head's private accuracy.",
    ONE_TEACHER,
    (Difference(own("three_teachers"), own("mhd"), above=1.0, within=True),),
    (TEACHES,),
  ),
  Claim(
    "delta_saturates",
    "Section 4.2.2",
    "A fourth teacher a step changes the last head no further.",
    ONE_TEACHER,
    (
      Difference(last("four_teachers", 56.2), last("three_teachers", 56.4), above=1.0, within=True),
    ),
    (
      Control(
        "three teachers raise it by a point",
        Difference(last("three_teachers", 56.4), LAST, above=1.0),
      ),
    ),
  ),
  Claim(
    "naive",
    "Sections 3.2 and 5",
    "The method as a whole is much more effective than naive distillation, Eq. 3: one head that "
    "learns from whoever is drawn.",
    EVERYWHERE,
    (Difference(LAST, last("naive_one_head"), above=5.0),),
    (NEEDS,),
  ),
  Claim(
    "skip",
    "Section 4.2.2",
    "With one auxiliary head, skipping targets less sure than the student helps it.",
    EVERYWHERE,
    (
      Difference(
        last("one_head_skip", 46.5),
        last("one_head", 44.7),
        above=0.5,
      ),
      Difference(
        own("one_head_skip", paper=72.2), own("one_head", paper=72.2), above=1.0, within=True
      ),
    ),
    (
      Control(
        "one head learns 3 points from others",
        Difference(last("one_head", 44.7), SEPARATE, above=3.0),
      ),
    ),
  ),
  Claim(
    "skip_many",
    "Section 4.2.2",
    "With several heads, skipping such targets does not improve the last one.",
    EVERYWHERE,
    (Difference(LAST, last("skip"), above=-0.5),),
    (TEACHES,),
  ),
  Claim(
    "skip_iid",
    "Section 4.2.2",
    "Where all clients are alike skipping such targets has virtually no effect.",
    EVERYWHERE,
    (Difference(last("iid_one_head_skip"), last("iid_one_head"), above=1.0, within=True),),
    (
      Control(
        "one head learns a point from others",
        Difference(last("iid_one_head"), IID_SEPARATE, above=1.0),
      ),
    ),
  ),
)
