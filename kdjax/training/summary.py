"""What a finished run says of itself: `summary.json`."""

from typing import TYPE_CHECKING, Any

import numpy as np

from kdjax.training import faults, schedule
from kdjax.types import TrainState

if TYPE_CHECKING:
  from kdjax.experiment import Experiment


MESSAGES = "messages/"  # what the counts of a peer's messages begin with in `spent`


def summary(
  experiment: "Experiment", results: list[dict], spent: dict[str, float], state: TrainState
) -> dict:
  """The contents of `summary.json`.

  Args:
    experiment: Experiment.
    results: what its evaluators found, over replicas.
    spent: see `loop.TrainingRun.spent`.
    state: at the end.
  """
  hurt, refused = faults.faults(experiment.env, experiment.visits, state)
  common = {
    "algorithm": experiment.config["algorithm"],
    "dataset": experiment.config["source"],
    "seed": experiment.config["seed"],
    "steps": experiment.batches,
    "heads": list(experiment.env.heads),
    "bytes_sent": schedule.bytes_sent(experiment.algorithm, experiment.visits, int(state.calls)),
    "images_per_second": spent["images"] / spent["working"],
    "input_bound": spent["waited"] / spent["working"],
    "unreadable_images": experiment.unreadable.count,
    "compile_seconds": spent["compiled"],
    "wall_seconds": spent["wall"],
    "faults": [{f.kind: f.number, "step": f.step, "steps": f.steps} for f in hurt],
    "refused": refused,
    **experiment.algorithm.facts(experiment.visits[-1].round + 1),
  }
  if experiment.env.is_peer:
    common |= messages(spent)
  runs = [facts | found for facts, found in zip(_facts(experiment), results, strict=True)]
  return common | ({"replicas": len(runs), "runs": runs} if len(runs) > 1 else runs[0])


def messages(spent: dict[str, float]) -> dict[str, Any]:
  """What a peer left, heard and refused: {'messages': {name: number}, 'bytes_sent': by kind}."""
  found = {
    key.removeprefix(MESSAGES): int(n) for key, n in spent.items() if key.startswith(MESSAGES)
  }
  taken = "taken_bytes/"
  sent = {key.removeprefix(taken): n for key, n in found.items() if key.startswith(taken)}
  return {"messages": dict(sorted(found.items())), "bytes_sent": sent}


def _facts(experiment):
  """What is known of every replica without measuring: who holds what, and how much was used."""
  env, shards = experiment.env, experiment.data.shards
  processed = experiment.streams.processed(experiment.visits)
  for r, seed in enumerate(env.population.seeds):
    first = r * env.population.holders
    own = env.local_ids if env.is_peer else range(first, first + env.population.holders)
    facts = {
      "seed": seed,
      "label_counts": [shards.label_counts[k].tolist() for k in own],
      "primary_labels": [list(shards.primary[k]) for k in own],
      "private_examples": [int(processed[k]) for k in own],
    }
    if env.is_peer:
      facts["here"] = list(env.local_ids)
    if experiment.algorithm.uses_graph:
      facts["edges"] = np.argwhere(env.graph.union()).tolist()
    yield facts
