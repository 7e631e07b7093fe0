"""Pairwise transfer: why some claims came out as they did, by (task, verdict)."""

from kdjax.reproduce.verdict import REFUTED

WHY = {  # claim: ((task, verdict): why)
  "sources": {
    ("digits", REFUTED): (
      "Random numbers in place of the sources' weights teach 2.4 points more ('random sources', "
      "remote accuracy 70.4 against 68.0), 95 % interval 0.7 to 4.2, and zeros as much (68.2). "
      "What sources know is there to be passed on: 'kd' gains 15 points, 'fedavg' 31."
    ),
  },
  "combined_above_federated": {
    ("digits", REFUTED): (
      "On digits an average of weights fits everybody's classes: 'fedavg' loses nothing on the "
      "local ones (its local accuracy), where the paper's lost 25 points. So it leads over all "
      "classes (its combined accuracy)."
    ),
    ("fashion_mnist", REFUTED): (
      "'fedavg' loses 15.8 points on the local classes (claim local_above_federated) and gains "
      "29.7 on the remote ones (claim remote_below_federated). So it leads over all classes, "
      "80.5 against 69.0, where the paper's pairwise agent knew two remote examples in three."
    ),
  },
  "as_coded": {
    ("digits", REFUTED): (
      "The untrained map rewrites the only head of the small network before every batch, where "
      "the authors' rewrote one of a pre-trained ResNet-50. Here that costs accuracy even among "
      "the remote classes (among remote accuracy of 'as coded')."
    )
  },
}
