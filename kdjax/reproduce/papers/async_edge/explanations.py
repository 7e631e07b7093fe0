"""Async edge learning: why some claims came out as they did, by (task, verdict)."""

from kdjax.reproduce.verdict import NOT_TESTABLE, REFUTED

WHY = {  # claim: ((task, verdict): why)
  "ensemble": {
    ("digits", REFUTED): (
      "Clones of one core, trained on the same few digits, hardly differ: the ensemble at the "
      "edge is as good as its single member (claim members). So 'CEP' teaches what 'CPP' does."
    ),
    ("letter", REFUTED): (
      "As on digits the ensemble at the edge is as good as its single member (claim members: 70.3 "
      "and 70.3), clones that see the same rows. So 'CEP' teaches what 'CPP' does."
    ),
  },
  "ensemble_independent": {
    ("digits", NOT_TESTABLE): (
      "Two models an edge, begun apart, are together no better than one of them on so few digits "
      "('IEP', edge against member1: 71.9 and 72.1). So the core has no better teacher to make use "
      "of."
    ),
    ("letter", NOT_TESTABLE): (
      "Three models an edge, begun apart, are together no better than one of them on 200 rows "
      "('IEP', edge against member1: 63.0 and 63.0). So the core has no better teacher to make use "
      "of."
    ),
  },
  "members": {
    ("digits", REFUTED): (
      "The members begin as one core and see the same digits, so that they err alike ('CEP', "
      "edge against member1). The paper's ResNets on 5,000 photographs have more to differ in."
    ),
    ("letter", REFUTED): (
      "The members begin as one core and see the same 200 rows, so that they err alike ('CEP', "
      "edge against member1: 70.3 and 70.3). Those begun apart do not gain from each other either "
      "('IEP': 63.0 and 63.0)."
    ),
  },
  "attending": {
    ("digits", REFUTED): (
      "The first half holds: what both get right grows. But it grows at the cost of what the core "
      "alone got right ('CPP', exclusive before and after), as the core ends close to its teacher."
    ),
    ("letter", REFUTED): (
      "The first half holds: what both get right grows by 7.9 points ('CPP', mutual before and "
      "after). But what the core alone got right falls from 9.8 to 3.4 (exclusive), as the core "
      "ends close to its teacher."
    ),
  },
  "lag": {
    ("digits_3", NOT_TESTABLE): (
      "How much the second edge helps varies too much from seed to seed to be told from half a "
      "point ('in time' against 'omitted'). A late model lies between the two."
    ),
    ("fashion_mnist_3", NOT_TESTABLE): (
      "The second edge helps by 1.0 points when it comes in time ('in time' against 'omitted'), "
      "95 % interval 0.1 to 1.9, not surely by half a point. On the letters it helps by 3.5."
    ),
  },
  "noisy_recovery": {
    ("digits", NOT_TESTABLE): (
      "One wrong edge costs the core little, and not surely a point ('clean, 4' against 'wrong, "
      "4'). So there is nothing to recover from."
    ),
    ("fashion_mnist", NOT_TESTABLE): (
      "One wrong edge costs a core that knows most already 0.8 points ('clean, 4' against 'wrong, "
      "4'), 95 % interval 0.5 to 1.1, not surely one. So there is nothing to recover from."
    ),
    ("letter", REFUTED): (
      "The next edge brings back nothing: 2.4 points are lost to the wrong one ('clean, 4' against "
      "'wrong, 4') and as many are missing a round later ('clean, 5' against 'wrong, 5'). The core "
      "is still learning, and a lost round stays lost."
    ),
  },
  "noisy_anew": {
    ("fashion_mnist", REFUTED): (
      "A core with 300 images loses 0.6 points to one edge whose labels are noise ('clean, 4' "
      "against 'wrong anew, 4'), 95 % interval 0.3 to 1.0. It loses little because any one edge "
      "gives it little ('CEM' against 'clean, 3')."
    )
  },
  "noisy_memorised": {
    ("digits", NOT_TESTABLE): (
      "The core knows its own digits by heart before any wrong edge comes ('clean, 4', overlap "
      "with the core's data). Its training accuracy has no room to jump."
    )
  },
  "noisy_kinds": {
    ("digits", NOT_TESTABLE): (
      "The core already has every one of its own digits right when the wrong edge comes ('clean, "
      "4', overlap with the core's data: 100). Its training accuracy has no room to jump."
    ),
    ("fashion_mnist", REFUTED): (
      "Whether wrong labels stay or are shuffled anew makes a difference of 0.2 points in training "
      "accuracy ('wrong, 4' against 'wrong anew, 4'), 95 % interval -0.4 to 0.8. Those that stay "
      "do not surely raise it at all (claim noisy_memorised: 0.9, -0.3 to 2.1)."
    ),
  },
  "noisy_end": {
    ("digits", REFUTED): (
      "Two wrong edges of nine hold a fifth of all digits ('wrong' against 'CEM'). Where each edge "
      "holds so few, none can be missed."
    )
  },
}
