"""MHD: claims about topologies and mixed architectures, Sections 4.3 to 4.5."""

from kdjax.reproduce.claims import LAST_HEAD, Claim, Control, Difference, Quantity
from kdjax.reproduce.papers.mhd.arms import FAR, MIXED_NEEDS, PROBE, at, last
from kdjax.reproduce.papers.mhd.tasks import ALL_CYCLES, BESIDE_FEDMD, CYCLES, LONG, MIXES

TOPOLOGY = (
  Claim(
    "transitive",
    "Section 4.4, Fig. 6",
    "The last head knows more on a cycle than on islands, where each has one teacher as well.",
    ALL_CYCLES,
    (Difference(last("mhd"), last("islands"), above=2.0),),
    (FAR,),
  ),
  Claim(
    "hops",
    "Section 4.4, Fig. 6",
    "Auxiliary head k learns the classes of the client at distance k, and no earlier head does.",
    ALL_CYCLES,
    (
      Difference(at("aux2", 2), at("aux1", 2), above=10.0),
      Difference(at("aux3", 3), at("aux2", 3), above=10.0),
    ),
    (FAR,),
  ),
  Claim(
    "hops_further",
    "Section 4.4, Fig. 6",
    "So it goes on over four and five hops, on a longer cycle than the paper's.",
    LONG,
    (
      Difference(at("aux4", 4), at("aux3", 4), above=10.0),
      Difference(at("aux5", 5), at("aux4", 5), above=10.0),
    ),
    (
      FAR,
      Control(
        "the third head learns from three hops away",
        Difference(at("aux3", 3), at("aux2", 3), above=10.0),
      ),
    ),
  ),
  Claim(
    "auxiliary_heads_alone",
    "Section 4.4, Fig. 6",
    "The gain over islands is on auxiliary heads only: the main head has none.",
    ALL_CYCLES,
    (Difference(Quantity("mhd"), Quantity("islands"), above=2.0, within=True),),
    (
      FAR,
      Control("the last head gains 2 points", Difference(last("mhd"), last("islands"), above=2.0)),
    ),
  ),
  Claim(
    "direct_teacher",
    "Section 4.4, Fig. 6",
    "On a cycle a client knows its direct teacher's classes best.",
    ALL_CYCLES,
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
    (Difference(last("mhd"), last("complete"), above=3.0, within=True),),
    (
      Control(
        "a complete graph gives 10 points more than none",
        Difference(last("complete"), Quantity("separate"), above=10.0),
      ),
    ),
  ),
  Claim(
    "embeddings_hold_more",
    "Section 4.4, Fig. 6",
    "A head tuned on frozen embeddings is an upper bound of the heads.",
    ALL_CYCLES,
    (
      Difference(Quantity("mhd", "shared", PROBE), last("mhd"), above=0.0),
      Difference(Quantity("islands", "shared", PROBE), last("islands"), above=0.0),
    ),
    (FAR,),
  ),
  Claim(
    "islands_embed_less",
    "Section 4.4, Fig. 6",
    "Embeddings from islands hold less than those from a cycle.",
    ALL_CYCLES,
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
        Quantity("mhd", LAST_HEAD, clients=OTHERS, paper=66.7),
        Quantity("all_small", LAST_HEAD, clients=OTHERS, paper=66.2),
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
        Quantity("mhd", LAST_HEAD, clients=ALONE, paper=68.6),
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
        Quantity("mhd", LAST_HEAD, clients=ALONE, paper=68.6),
        Quantity("all_small_fedavg", paper=67.7),
        above=0.0,
      ),
    ),
    (MIXED_NEEDS,),
  ),
)

FEDMD, BESIDE = Quantity("fedmd", paper=50.2), last("beside_fedmd", 57.0)
TABLE_2 = (
  Claim(
    "spread",
    "Section 4.3, Table 2",
    "Clients of different architectures end closer together than with FedMD.",
    BESIDE_FEDMD,
    (
      Difference(
        FEDMD._replace(spread=True, paper=2.7),
        BESIDE._replace(spread=True, paper=0.6),
        above=0.5,
      ),
    ),
    (
      Control(
        "pooled data give 10 points",
        Difference(Quantity("supervised", paper=60.6), Quantity("separate"), above=10.0),
      ),
      Control("FedMD itself is no failure", Difference(FEDMD, Quantity("separate"), above=5.0)),
    ),
  ),
)
