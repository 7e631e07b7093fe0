"""MHD: claims about topologies and mixed architectures, Sections 4.4 and 4.5."""

from kdjax.reproduce.claims import Claim, Control, Difference, Quantity
from kdjax.reproduce.papers.mhd.arms import CYCLES, FAR, MIXED_NEEDS, MIXES, PROBE, at
from kdjax.reproduce.verdict import REFUTED

TOPOLOGY = (
  Claim(
    "transitive",
    "Section 4.4, Fig. 6",
    "The last head knows more on a cycle than on islands, where each has one teacher as well.",
    CYCLES,
    (Difference(Quantity("mhd", "aux3"), Quantity("islands", "aux3"), above=2.0),),
    (FAR,),
  ),
  Claim(
    "hops",
    "Section 4.4, Fig. 6",
    "Auxiliary head k learns the classes of the client at distance k, and no earlier head does.",
    CYCLES,
    (
      Difference(at("aux2", 2), at("aux1", 2), above=10.0),
      Difference(at("aux3", 3), at("aux2", 3), above=10.0),
    ),
    (FAR,),
  ),
  Claim(
    "direct_teacher",
    "Section 4.4, Fig. 6",
    "On a cycle a client knows its direct teacher's classes best.",
    CYCLES,
    (
      Difference(at("aux1", 1), at("aux1", 2), above=5.0),
      Difference(at("aux2", 1), at("aux2", 3), above=5.0),
    ),
    (FAR,),
  ),
  Claim(
    "cycle_suffices",
    "Section 4.4, Fig. 6",
    "The last head on a cycle closely matches the baseline in which everyone hears everyone.",
    CYCLES,
    (Difference(Quantity("mhd", "aux3"), Quantity("complete", "aux3"), above=3.0, within=True),),
    (
      Control(
        "a complete graph gives 10 points more than none",
        Difference(Quantity("complete", "aux3"), Quantity("separate"), above=10.0),
      ),
    ),
    {
      ("digits_cycle", REFUTED): (
        "Here no two clients share a class, so that on a cycle the classes of the client at "
        "distance 3 are the last head's alone (claim hops), while on a complete graph every head "
        "meets all. In the paper's split most labels have two primary clients and more."
      )
    },
  ),
  Claim(
    "embeddings_hold_more",
    "Section 4.4, Fig. 6",
    "A head tuned on frozen embeddings is an upper bound of the heads.",
    CYCLES,
    (
      Difference(Quantity("mhd", "shared", PROBE), Quantity("mhd", "aux3"), above=0.0),
      Difference(Quantity("islands", "shared", PROBE), Quantity("islands", "aux3"), above=0.0),
    ),
    (FAR,),
  ),
  Claim(
    "islands_embed_less",
    "Section 4.4, Fig. 6",
    "Embeddings from islands hold less than those from a cycle.",
    CYCLES,
    (
      Difference(Quantity("mhd", "shared", PROBE), Quantity("islands", "shared", PROBE), above=0.5),
    ),
    (
      Control(
        "embeddings gain 2 points from others",
        Difference(
          Quantity("complete", "shared", PROBE), Quantity("separate", "shared", PROBE), above=2.0
        ),
      ),
    ),
  ),
)

OTHERS, ALONE = (0, 1, 2), (3,)  # the small clients, the large one
HETEROGENEOUS = (
  Claim(
    "a_large_teacher",
    "Section 4.5",
    "Small networks are better with a large one among them than with a small one in its place.",
    MIXES,
    (
      Difference(
        Quantity("mhd", "aux3", clients=OTHERS, paper=66.7),
        Quantity("all_small", "aux3", clients=OTHERS, paper=66.2),
        above=0.3,
      ),
    ),
    (MIXED_NEEDS,),
  ),
  Claim(
    "a_large_student",
    "Section 4.5",
    "A large network learns far more from small ones than alone.",
    MIXES,
    (
      Difference(
        Quantity("mhd", "aux3", clients=ALONE, paper=68.6),
        Quantity("separate", clients=ALONE, paper=39.4),
        above=5.0,
      ),
    ),
    (MIXED_NEEDS,),
  ),
  Claim(
    "above_averaged_small_ones",
    "Section 4.5",
    "The large network ends above the small ones that average their weights.",
    MIXES,
    (
      Difference(
        Quantity("mhd", "aux3", clients=ALONE, paper=68.6),
        Quantity("all_small_fedavg", paper=67.7),
        above=0.0,
      ),
    ),
    (MIXED_NEEDS,),
  ),
)
