"""MHD: claims about the losses' weights, the data and the baselines, Sections 4.2 and 4.3."""

from kdjax.reproduce.claims import Claim, Control, Difference, Quantity
from kdjax.reproduce.papers.mhd.arms import (
  AVERAGED,
  IID_AVERAGED,
  IID_LAST,
  IID_NEEDS,
  IID_SEPARATE,
  LAST,
  NEEDS,
  SKEWED,
  SUPERVISED,
  TEACHES,
  last,
  own,
)
from kdjax.reproduce.papers.mhd.tasks import EVERYWHERE, MAIN

LOSSES = (
  Claim(
    "predictions_first",
    "Section 4.2.1, Fig. 3",
    "Taken alone, distilling predictions does more than distilling embeddings.",
    EVERYWHERE,
    (Difference(last("no_embeddings"), Quantity("embeddings_alone"), above=2.0),),
    (NEEDS,),
  ),
  Claim(
    "both",
    "Section 4.2.1, Fig. 3",
    "Predictions and embeddings together are better than predictions alone.",
    EVERYWHERE,
    (Difference(LAST, last("no_embeddings"), above=0.5),),
    (TEACHES,),
  ),
  Claim(
    "threshold",
    "Section 4.2.1, Fig. 3",
    "Beyond a threshold a stronger distillation makes both accuracies worse: nu_aux = 10 does.",
    EVERYWHERE,
    (
      Difference(Quantity("mhd", "aux1"), Quantity("nu_aux_10", "aux1"), above=0.5),
      Difference(own("mhd"), own("nu_aux_10"), above=0.5),
    ),
    (TEACHES,),
  ),
  Claim(
    "threshold_embeddings",
    "Section 4.2.1, Fig. 3",
    "So it is with the embeddings' distillation: nu_emb = 10 makes both accuracies worse.",
    EVERYWHERE,
    (
      Difference(Quantity("mhd", "aux1"), Quantity("nu_emb_10", "aux1"), above=0.5),
      Difference(own("mhd"), own("nu_emb_10"), above=0.5),
    ),
    (TEACHES,),
  ),
  Claim(
    "embeddings_iid",
    "Section 4.2.1, Fig. 3",
    "Where all clients are alike distilling embeddings is effective: alone it beats no exchange.",
    EVERYWHERE,
    (Difference(Quantity("iid_embeddings_alone"), IID_SEPARATE, above=0.5),),
    (IID_NEEDS,),
  ),
)

DATA = (
  Claim(
    "iid_is_easier",
    "Section 4.3",
    "The last head reaches more where all clients are alike than where data are skewed.",
    MAIN,
    (Difference(IID_LAST, LAST, above=2.0),),
    (SKEWED,),
  ),
  Claim(
    "fedavg_is_above",
    "Table 1",
    "Federated averaging is an upper bound: above the last head.",
    MAIN,
    (Difference(AVERAGED, LAST, above=1.0),),
    (NEEDS,),
  ),
  Claim(
    "fedavg_often",
    "Table 1",
    "Averaging more often is better: u = 200 against 1,000; 20 against 200 on small sets.",
    MAIN,
    (Difference(AVERAGED, Quantity("fedavg_rare", paper=65.7), above=0.5),),
    (NEEDS,),
  ),
  Claim(
    "plus",
    "Table 1",
    "With all of the training set as public data the last head comes closer to supervision.",
    MAIN,
    (Difference(last("plus", 63.4), LAST, above=1.0),),
    (Control("there are 2 points to gain", Difference(AVERAGED, LAST, above=2.0)),),
  ),
  Claim(
    "plus_is_close",
    "Section 4.3, Table 1",
    "With all of the training set as public data, and all clients alike, the last head is close to "
    "the supervised model.",
    MAIN,
    (Difference(last("iid_plus", 68.6), SUPERVISED, above=-2.0),),
    (
      Control(
        "pooled data give 3 points more than a client's own",
        Difference(SUPERVISED, IID_SEPARATE, above=3.0),
      ),
    ),
  ),
  Claim(
    "iid_fedavg_often",
    "Table 1",
    "Averaging more often is better where all clients are alike, too.",
    EVERYWHERE,
    (Difference(IID_AVERAGED, Quantity("iid_fedavg_rare", paper=69.1), above=0.3),),
    (IID_NEEDS,),
  ),
  Claim(
    "public_size",
    "Section 4.2.2, Appendix B.2",
    "More public data help, with the private data fixed: all of them against an eighth.",
    EVERYWHERE,
    (Difference(LAST, last("public_eighth"), above=2.0),),
    (TEACHES,),
  ),
)
