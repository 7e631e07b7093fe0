"""The bytes that a training step moves, as XLA counts them: `python -m benchmarks.moved`.

Nothing is run, so the numbers have no noise: those of two commits show the cost of a change.
"""

from benchmarks import settings
from kdjax import experiment, plan

CLIENTS, BATCH = 4, 32


def bytes_moved(model, algorithm):
  """Bytes of a step of all clients on one CPU device; `model`, a key of settings.MODELS."""
  spec = dict(model=model, algorithm=algorithm, clients=CLIENTS, batch=BATCH, map="vmap")
  config = settings.config(spec | dict(conv="direct", steps_per_dispatch=1))
  planned = experiment.build(config, data=plan.described(config))
  train = next(v for v in plan.first_visits(planned) if v.phase.feed)
  return plan.lower(planned, train).compile().cost_analysis()["bytes accessed"]


def main():
  """Prints a line for every network and method."""
  for model in ("mlp", "cnn", "resnet20"):
    for algorithm in settings.ALGORITHMS:
      print(f"{model:10} {algorithm:10} {bytes_moved(model, algorithm):16,.0f}", flush=True)


if __name__ == "__main__":
  main()
