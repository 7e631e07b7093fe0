"""Using a trained client needs nothing of the run's data, not even how much there was."""

import ensembles
import jax
import numpy as np
import pytest

import kdjax
from kdjax import checkpoint, loop
from kdjax.core.clients import run

CASES = [
  ("mhd pool", {}),
  ("fedmd", {}),
  ("separate", dict(limit=100)),
  ("separate", dict(holdout=10)),
]


@pytest.mark.parametrize("method, changes", CASES, ids=["mhd pool", "fedmd", "limit", "holdout"])
def test_a_run_is_loaded_whatever_source_info_counts(method, changes, tmp_path):
  """A source is read whatever counts `source_info` gives, so five images for 124 will do."""
  c = ensembles.config(method, dtype="float32", **changes)
  c.source_info.update(train=5, test=1)
  c.mesh.steps_per_dispatch = 1
  e = ensembles.build(c)
  assert loop.run(e, tmp_path, command="", stop=lambda: True) == loop.PREEMPTED
  client = kdjax.load(tmp_path, client=3)
  checkpoints = checkpoint.Checkpoints(tmp_path)
  saved = checkpoints.restore(checkpoints.latest(), e.template())
  checkpoints.close()
  images = e.data.source.test.array
  mine = jax.tree.map(lambda x: x[3], saved.clients[0])
  expected = jax.nn.softmax(run(e.env.cohorts[0].model, mine, images / 127.5 - 1).logits)
  said = client.predict(images)
  assert client.heads == e.env.heads and set(said) == set(client.heads)
  for h, head in enumerate(client.heads):
    np.testing.assert_allclose(said[head], expected[:, h], rtol=1e-5)
