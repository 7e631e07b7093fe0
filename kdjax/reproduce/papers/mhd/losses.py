"""MHD: claims about the losses' weights, the data and the baselines, Sections 4.2 and 4.3."""

from kdjax.reproduce.claims import Claim, Control, Difference, Quantity
from kdjax.reproduce.papers.mhd.arms import (
  AVERAGED,
  EVERYWHERE,
  IID_NEEDS,
  LAST,
  NEEDS,
  PUBLISHED,
  SEPARATE,
  SETS,
  SKEWED,
  TEACHES,
  TEACHES_LITTLE,
  own,
)
from kdjax.reproduce.verdict import NOT_TESTABLE

LOSSES = (
  Claim(
    "predictions_first",
    "Section 4.2.1, Fig. 3",
    "Taken alone, distilling predictions does more than distilling embeddings.",
    EVERYWHERE,
    (Difference(Quantity("no_embeddings", "aux3"), Quantity("embeddings_alone"), above=2.0),),
    (NEEDS,),
  ),
  Claim(
    "both",
    "Section 4.2.1, Fig. 3",
    "Predictions and embeddings together are better than predictions alone.",
    EVERYWHERE,
    (Difference(LAST, Quantity("no_embeddings", "aux3"), above=0.5),),
    (TEACHES,),
    TEACHES_LITTLE,
  ),
  Claim(
    "threshold",
    "Section 4.2.1, Fig. 3",
    "Beyond a threshold a stronger distillation makes both accuracies worse: nu_aux = 10 does.",
    PUBLISHED,
    (
      Difference(Quantity("mhd", "aux1"), Quantity("nu_aux_10", "aux1"), above=0.5),
      Difference(own("mhd"), own("nu_aux_10"), above=0.5),
    ),
    (TEACHES,),
    TEACHES_LITTLE,
  ),
)

DATA = (
  Claim(
    "iid",
    "Table 1",
    "Where all clients are alike the auxiliary heads know more than clients that learn alone.",
    EVERYWHERE,
    (
      Difference(
        Quantity("iid", "aux3", paper=59.9), Quantity("iid_separate", paper=46.3), above=1.0
      ),
    ),
    (IID_NEEDS,),
  ),
  Claim(
    "iid_auxiliary",
    "Sections 4.2.1 and 4.2.2, Fig. 4",
    "Where all clients are alike an auxiliary head is better than the main one.",
    PUBLISHED,
    (Difference(Quantity("iid", "aux2"), Quantity("iid", "main"), above=0.3),),
    (IID_NEEDS,),
  ),
  Claim(
    "iid_is_easier",
    "Section 4.3",
    "The last head reaches more where all clients are alike than where data are skewed.",
    EVERYWHERE,
    (Difference(Quantity("iid", "aux3", paper=59.9), LAST, above=2.0),),
    (SKEWED,),
  ),
  Claim(
    "fedavg_is_above",
    "Table 1",
    "Federated averaging is an upper bound: above the last head.",
    EVERYWHERE,
    (Difference(AVERAGED, LAST, above=1.0),),
    (NEEDS,),
  ),
  Claim(
    "fedavg_often",
    "Table 1",
    "Averaging more often is better: u = 200 against 1,000, here 20 against 200.",
    EVERYWHERE,
    (Difference(AVERAGED, Quantity("fedavg_rare", paper=65.7), above=0.5),),
    (NEEDS,),
  ),
  Claim(
    "plus",
    "Table 1",
    "With all of the training set as public data the last head comes closer to supervision.",
    EVERYWHERE,
    (Difference(Quantity("plus", "aux3", paper=63.4), LAST, above=1.0),),
    (Control("there are 2 points to gain", Difference(AVERAGED, LAST, above=2.0)),),
    {
      ("digits", NOT_TESTABLE): (
        "The last head comes as near to averaged weights as 0.8 points in the interval ('fedavg' "
        "against 'mhd', aux3), since averaging suffers from BatchNorm under this skew. So it is "
        "not sure that there is anything left to gain."
      )
    },
  ),
  Claim(
    "public_size",
    "Section 4.2.2, Appendix B.2",
    "More public data help, with the private data fixed.",
    SETS,
    (Difference(Quantity("public_400", "aux3"), Quantity("public_50", "aux3"), above=2.0),),
    (
      Control(
        "400 public examples teach 5 points",
        Difference(Quantity("public_400", "aux3"), SEPARATE, above=5.0),
      ),
    ),
  ),
)
