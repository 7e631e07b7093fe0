"""Tests MHD's recipe for small machines: on test data, with many seeds, rates and networks.

  python -m benchmarks.recipe mhd_digits --seeds=20 --rates=1,0.333,3 --workdir=runs/recipe
  python -m benchmarks.recipe mhd_digits --network=cnn --seeds=20 --workdir=runs/recipe
  python -m benchmarks.recipe mhd_letter --source=npz:letter.npz --seeds=5 --workdir=runs/recipe

It trains MHD and separate training of one config, and prints one line per learning rate with test
accuracies in percent. The recipe holds if in every seed the last head is 10 points of shared
accuracy above separate training, if each head is above the one before it in the mean, if the main
head's private accuracy is within 1.5 points of separate training's in the mean, and if no head
collapses. A run has five seeds. Runs that are in the folder are resumed.
"""

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np

import kdjax

FOLDED = 5  # seeds of a run
GAIN = 10.0  # points, at least, of the last head over separate training, in every seed
KEPT = 1.5  # points, at most, between the main head and separate training on own labels
NETWORKS = {
  "as it is": (),
  "mlp": ("mlp", {"hidden": (64, 64, 32), "activation": "tanh"}),
  "cnn": ("cnn", {"widths": (16, 32)}),
  "resnet": ("cifar_resnet", {"depth": 8}),
}


class Found(NamedTuple):
  """A recipe's accuracies by seed, percent, mean over clients."""

  separate: np.ndarray  # [S], shared
  heads: np.ndarray  # [S, heads], shared, main head first
  private: np.ndarray  # [S], the main head's minus separate training's
  collapsed: int  # heads of MHD's clients, over all seeds

  @property
  def gain(self):
    """[S], points: the last head's shared accuracy minus separate training's."""
    return self.heads[:, -1] - self.separate

  def verdict(self):
    """'holds', or the promises of the recipe that fail."""
    steps = np.diff(self.heads.mean(0))
    bounds = {
      f"last head not {GAIN:g} points above separate in every seed": (self.gain >= GAIN).all(),
      "heads do not grow": (steps > 0).all(),
      f"main head not within {KEPT:g} points of separate": abs(self.private.mean()) <= KEPT,
      "heads collapsed": self.collapsed == 0,
    }
    return "; ".join(words for words, kept in bounds.items() if not kept) or "holds"

  def line(self):
    """Its row of the table."""
    gain = self.gain
    mean = self.heads.mean(0)
    cells = (
      str(len(gain)),
      f"{self.separate.mean():.1f}",
      " ".join(f"{x:.1f}" for x in mean),
      f"{gain.mean():+.1f}",
      f"{gain.min():+.1f}",
      f"{self.private.mean():+.1f}",
      str(self.collapsed),
      self.verdict(),
    )
    return " | ".join(cells)


HEADER = (
  "seeds",
  "separate",
  "main head, then aux",
  "gain",
  "least",
  "private, main",
  "collapsed",
  "verdict",
)


def config(asked, rate, seed):
  """The config at `rate` times its learning rate, on five seeds."""
  changes = {"compare": ("separate",), "seed": seed, "replicas": FOLDED}
  if asked.source:
    changes["source"] = asked.source
  if asked.steps:
    changes["steps"] = asked.steps
  found = kdjax.get_config(asked.config)
  if asked.network != "as it is":
    ((clients, *_),) = found.clients
    changes["clients"] = ((clients, *NETWORKS[asked.network]),)
  peak = found.optim.lr * rate
  return kdjax.get_config(found, **changes, **{"optim.lr": peak})


def by_seed(run, column, head):
  """A head's accuracies by seed, [S]: percent, means over clients."""
  rows = [r for r in run.results() if r["head"] == head and r["client"] >= 0]
  seeds = sorted({r["seed"] for r in rows})
  return np.array([100 * np.mean([r[column] for r in rows if r["seed"] == s]) for s in seeds])


def found(asked, rate):
  """The `Found` of all seeds; trains the missing runs."""
  parts = []
  for seed in range(asked.first, asked.first + asked.seeds, FOLDED):
    name = f"{asked.config}-{asked.network.replace(' ', '-')}-{rate:g}-{seed}"
    run = kdjax.train(config(asked, rate, seed), asked.workdir / name)
    separate, heads = run.baselines["separate"], run.summary["heads"]
    parts.append(
      (
        by_seed(separate, "shared_accuracy", "main"),
        np.stack([by_seed(run, "shared_accuracy", head) for head in heads], 1),
        by_seed(run, "private_accuracy", "main") - by_seed(separate, "private_accuracy", "main"),
        len(run.summary["collapsed"]),
      )
    )
  separate, heads, private, collapsed = zip(*parts, strict=True)
  return Found(*map(np.concatenate, (separate, heads, private)), sum(collapsed))


def main():
  """Trains the runs and prints the table."""
  parser = argparse.ArgumentParser("python -m benchmarks.recipe", description=__doc__)
  parser.add_argument("config", help="a config of MHD")
  parser.add_argument("--network", choices=NETWORKS, default="as it is")
  parser.add_argument("--source", default="", help="where the data are, as the config takes it")
  parser.add_argument("--seeds", type=int, default=FOLDED, help="a multiple of five")
  parser.add_argument("--first", type=int, default=0, help="the first of the seeds")
  parser.add_argument("--steps", type=int, default=0, help="instead of the config's")
  parser.add_argument("--rates", default="1", help="times the config's, with commas")
  parser.add_argument("--workdir", type=Path, required=True)
  asked = parser.parse_args()
  print("| " + " | ".join(("config, network, rate", *HEADER)) + " |")
  print("| --- " + "| ---: " * (len(HEADER) - 1) + "| --- |")
  for rate in map(float, asked.rates.split(",")):
    line = found(asked, rate).line()
    print(f"| {asked.config}, {asked.network}, {rate:g} | {line} |", flush=True)


if __name__ == "__main__":
  main()
