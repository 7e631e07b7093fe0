"""What a finished run says of itself: `summary.json`."""

from typing import TYPE_CHECKING

import numpy as np

from kdjax.training import schedule

if TYPE_CHECKING:
  from kdjax.experiment import Experiment


def summary(
  experiment: "Experiment", results: list[dict], spent: dict[str, float], step: int
) -> dict:
  """The contents of `summary.json`.

  Args:
    experiment: Experiment.
    results: what its evaluators found, over replicas.
    spent: see `loop.TrainingRun.spent`.
    step: calls of phases in the whole run.
  """
  common = {
    "algorithm": experiment.config["algorithm"],
    "dataset": experiment.config["source"],
    "seed": experiment.config["seed"],
    "steps": experiment.batches,
    "heads": list(experiment.env.heads),
    "bytes_sent": schedule.bytes_sent(experiment.algorithm, experiment.visits, step),
    "images_per_second": spent["images"] / spent["working"],
    "input_bound": spent["waited"] / spent["working"],
    "unreadable_images": experiment.unreadable.count,
    "compile_seconds": spent["compiled"],
    "wall_seconds": spent["wall"],
    **experiment.algorithm.facts(experiment.visits[-1].round + 1),
  }
  runs = [facts | found for facts, found in zip(_facts(experiment), results, strict=True)]
  return common | ({"replicas": len(runs), "runs": runs} if len(runs) > 1 else runs[0])


def _facts(experiment):
  """What is known of every replica without measuring: who holds what, and how much was used."""
  env, shards = experiment.env, experiment.data.shards
  processed = experiment.streams.processed(experiment.visits)
  for r, seed in enumerate(env.population.seeds):
    own = slice(r * env.population.holders, (r + 1) * env.population.holders)
    facts = {
      "seed": seed,
      "label_counts": shards.label_counts[own].tolist(),
      "primary_labels": [list(p) for p in shards.primary[own]],
      "private_examples": processed[own].tolist(),
    }
    if experiment.algorithm.uses_graph:
      facts["edges"] = np.argwhere(env.graph.union()).tolist()
    yield facts
