"""The effect of `faults.client` on a client with some NaN data, and on the others.

  python -m benchmarks.bad_rows

MHD on digits as rows of 64 features, the quickstart's five clients, 1,000 batches, seeds 0 to 4.
One row in fifty of client 2's data becomes NaN. The numbers are shared accuracies of the last head
in percent, mean and standard deviation over seeds.
"""

import jax
import numpy as np

from kdjax import api, experiment
from kdjax.config import plain
from kdjax.data import dataset
from kdjax.data.sources import ExampleSet, Source
from kdjax.testing import small

SEEDS, VICTIM, SHARE = range(5), 2, 50
POLICIES = {"no bad rows": None, "reset": "reset", "freeze": "freeze"}


def table(source):
  """Digits as rows of features, which may be NaN."""
  rows = lambda s: (s.fetch(np.arange(len(s.labels))).reshape(-1, 64) / 255).astype("f4")
  one = lambda s: ExampleSet(s.labels, s.strata, (64,), rows(s), None)
  return Source(source.name, one(source.train), one(source.test), source.classes)


def trained(policy, seed):
  """(shared accuracy of the others, that of the victim, steps that the victim skipped)."""
  digits = plain(api.get_config("mhd_digits", replicas=1, seed=seed))
  found = dataset.open_data(digits, (seed,))
  source = table(found.source)
  c = api.get_config("mhd_digits", replicas=1, seed=seed, steps=1_000, compare=())
  with c.unlocked():
    c.source_info.update(image=(64,), train=0, test=0, classes=10)
    c.normalise = dict(mean=(0.5,), std=(0.5,))
    c.faults.client = policy or "reset"
  if policy:
    own = np.random.default_rng(seed).permutation(found.shards.private[VICTIM])
    source.train.array[own[: len(own) // SHARE]] = np.nan
  data = dataset.Data(source, source.train, found.shards)
  e = experiment.build(c, data=data, devices=jax.devices()[:1])
  state, stepper = small.train(e)
  accuracy = np.array(stepper.evaluate(state)[0]["shared_accuracy"][e.env.heads[-1]])
  lost = int(state.clients[0].health.faults[VICTIM])
  return np.delete(accuracy, VICTIM).mean(), accuracy[VICTIM], lost


def main():
  """Prints a line for every policy."""
  for name, policy in POLICIES.items():
    others, own, lost = np.array([trained(policy, seed) for seed in SEEDS]).T
    text = "  ".join(f"{100 * x.mean():5.1f} ± {100 * x.std(ddof=1):4.1f}" for x in (others, own))
    print(f"{name:12} others, victim: {text}  skipped steps: {lost.astype(int)}", flush=True)


if __name__ == "__main__":
  main()
