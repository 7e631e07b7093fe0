"""Counts the FLOPs of a step by XLA, without running it.

It counts in a process of its own, so that the process that times the others holds no device.
"""

import functools
import json
import os
import subprocess
import sys

COUNTED = 2  # clients of the counted step: as many as an exchange needs


def step_flops(spec):
  """FLOPs of one training step of all of a spec's clients, two per multiply-add."""
  client = {k: spec[k] for k in ("model", "batch", "algorithm")}
  return spec["clients"] * _client_flops(json.dumps(client, sort_keys=True))


@functools.cache
def _client_flops(spec):
  command = [sys.executable, "-m", "benchmarks.count", spec]
  environment = os.environ | {"JAX_PLATFORMS": "cpu"}
  out = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
  return json.loads(out.stdout)["flops"]


def main():
  """Prints the FLOPs of one client's step."""
  from benchmarks import settings
  from kdjax import plan

  spec = json.loads(sys.argv[1]) | {"clients": COUNTED}
  counted = plan.counted_flops(settings.config(spec))
  print(json.dumps({"flops": counted["train"] / COUNTED}))


if __name__ == "__main__":
  main()
