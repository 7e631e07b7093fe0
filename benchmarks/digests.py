"""The cost of a checkpoint's digests beside that of saving it: `python -m benchmarks.digests`.

Eight clients' arrays of two sizes are digested and saved by Orbax in turn; the numbers are medians.
"""

import logging
import statistics
import tempfile
import time

import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from kdjax.training import digest

CLIENTS, ARRAYS, SAVES = 8, 8, 9


def main():
  """Prints a line for every size."""
  logging.getLogger("absl").setLevel(logging.ERROR)
  for numbers in (125_000, 980_000):  # in an array, per client
    draw = np.random.default_rng(0)
    tree = {str(i): jnp.asarray(draw.random((CLIENTS, numbers), "f4")) for i in range(ARRAYS)}
    digests, saves = [], []
    with tempfile.TemporaryDirectory() as folder, ocp.CheckpointManager(folder) as manager:
      for step in range(SAVES):
        began = time.perf_counter()
        digest.table(tree)
        between = time.perf_counter()
        manager.save(step, args=ocp.args.StandardSave(tree))
        manager.wait_until_finished()
        digests.append(between - began)
        saves.append(time.perf_counter() - between)
    digesting = statistics.median(digests)
    saving = statistics.median(saves)
    size = sum(x.nbytes for x in tree.values()) / 1e6
    print(
      f"{size:.0f} MB: digests {1e3 * digesting:.1f} ms, saving {1e3 * saving:.0f} ms:"
      f" {100 * digesting / saving:.1f} %",
      flush=True,
    )


if __name__ == "__main__":
  main()
