"""The cost of the finiteness checks of every step: `python -m benchmarks.checks`.

The same training step runs with the checks of `core/health.py` and without, on one CPU device. The
bytes that it moves are XLA's count. The times are taken in turn, the median of several blocks each.
"""

import argparse
import statistics
import time
from unittest import mock

import jax
import jax.numpy as jnp

from benchmarks import settings
from kdjax import experiment, plan
from kdjax.core import health
from kdjax.training.stepper import Stepper

CLIENTS, BATCH = 8, 32
BLOCK = 3.0  # the approximate seconds of a block


class Side:
  """A compiled step and its state."""

  def __init__(self, config, data):
    self.stepper = Stepper(experiment.build(config, data=data, devices=jax.devices()[:1]))
    self.first = next(d for d in self.stepper.dispatches(0) if d.visit.phase.feed)
    self.arguments, self.state = self.stepper.inputs(self.first), self.stepper.init()
    self.turn(2)
    self.repeats = max(1, round(BLOCK / self.turn(2)))

  def turn(self, repeats):
    """Runs some dispatches; returns the seconds of one."""
    began = time.perf_counter()
    for _ in range(repeats):
      self.state, _ = self.stepper.run(self.state, self.first, self.arguments)
    jax.block_until_ready(self.state)
    return (time.perf_counter() - began) / repeats


def unchecked():
  """Patches under which traced steps are always taken, whether their values are finite or not."""
  taken = mock.patch.object(health, "sound", lambda *_: jnp.bool_(True))
  as_they_are = mock.patch.object(health, "clean", lambda _, grads: grads)
  return taken, as_they_are


def moved(config, data):
  """The bytes that a step moves."""
  planned = experiment.build(config, data=data, devices=jax.devices()[:1])
  train = next(v for v in plan.first_visits(planned) if v.phase.feed)
  return plan.lower(planned, train).compile().cost_analysis()["bytes accessed"]


def main():
  """Prints a line for every network and method."""
  parser = argparse.ArgumentParser("python -m benchmarks.checks", description=__doc__)
  parser.add_argument("--runs", type=int, default=9, help="blocks of each side")
  runs = parser.parse_args().runs
  for model in ("mlp", "cnn", "resnet20"):
    for algorithm in ("separate", "mhd"):
      spec = dict(model=model, algorithm=algorithm, clients=CLIENTS, batch=BATCH)
      config = settings.config(spec | dict(steps_per_dispatch=1))
      data = settings.data(spec)
      sides, size = [Side(config, data)], [moved(config, data)]
      taken, as_they_are = unchecked()
      with taken, as_they_are:
        sides.append(Side(config, data))
        size.append(moved(config, data))
      ratios = []
      for turn in range(runs):
        order = sides if turn % 2 else sides[::-1]
        seconds = {side: side.turn(side.repeats) for side in order}
        ratios.append(seconds[sides[0]] / seconds[sides[1]])
      low, *_, high = statistics.quantiles(ratios, n=4)
      print(
        f"{model:10} {algorithm:10} bytes {100 * (size[0] / size[1] - 1):+5.1f} %"
        f"  time {100 * (statistics.median(ratios) - 1):+5.1f} %"
        f" ({100 * (low - 1):+.1f} to {100 * (high - 1):+.1f})",
        flush=True,
      )


if __name__ == "__main__":
  main()
