"""The summary of a finished run: `summary.json`."""

from typing import TYPE_CHECKING, Any

import numpy as np

from kdjax.training import faults, schedule
from kdjax.types import TrainState

if TYPE_CHECKING:
  from kdjax.experiment import Experiment


MESSAGES = "messages/"  # the prefix of a peer's message counts in `spent`


def summary(
  experiment: "Experiment", results: list[dict], spent: dict[str, float], state: TrainState
) -> dict:
  """The contents of `summary.json`.

  Args:
    experiment: Experiment.
    results: the evaluators' results, over replicas.
    spent: see `stretch.Stretch.spent`.
    state: the state at the end.
  """
  found, refused = faults.faults(experiment.env, experiment.visits, state)
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
    "faults": [{f.kind: f.number, "step": f.step, "steps": f.steps} for f in found],
    "refused": refused,
    **experiment.algorithm.facts(experiment.visits[-1].round + 1),
  }
  if experiment.env.is_peer:
    common |= messages(spent)
  runs = [facts | result for facts, result in zip(_facts(experiment), results, strict=True)]
  return common | ({"replicas": len(runs), "runs": runs} if len(runs) > 1 else runs[0])


def messages(spent: dict[str, float]) -> dict[str, Any]:
  """A peer's counts of messages sent, read and refused.

  Returns:
    {'messages': {name: number}, 'bytes_sent': {kind: bytes}}.
  """
  counts = {
    key.removeprefix(MESSAGES): int(n) for key, n in spent.items() if key.startswith(MESSAGES)
  }
  taken = "taken_bytes/"
  sent = {key.removeprefix(taken): n for key, n in counts.items() if key.startswith(taken)}
  return {"messages": dict(sorted(counts.items())), "bytes_sent": sent}


def _facts(experiment):
  """The facts of each replica that need no evaluation: its shards, and the examples processed."""
  env = experiment.env
  shards = experiment.data.shards
  processed = experiment.streams.processed(experiment.visits)
  for r, seed in enumerate(env.population.seeds):
    first = r * env.population.holders
    holders = env.local_ids if env.is_peer else range(first, first + env.population.holders)
    facts = {
      "seed": seed,
      "label_counts": [shards.label_counts[k].tolist() for k in holders],
      "primary_labels": [list(shards.primary[k]) for k in holders],
      "private_examples": [int(processed[k]) for k in holders],
    }
    if env.is_peer:
      facts["here"] = list(env.local_ids)
    if experiment.algorithm.uses_graph:
      facts["edges"] = np.argwhere(env.graph.union()).tolist()
    yield facts
