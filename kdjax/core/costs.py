"""What models cost: to run, to fetch, and to learn from."""

import jax
import numpy as np

from kdjax.core.clients import run
from kdjax.core.snapshots import cohort_of


def forward_flops(model, template, shape, dtype):
  """FLOPs of one example's forward pass, as XLA counts them before it optimises.

  Args:
    model: a Flax module, (images, train, mask) -> ModelOut.
    template: ClientState of shapes.
    shape, dtype: of one example.
  """
  images = jax.ShapeDtypeStruct((1, *shape), dtype)
  forward = jax.jit(lambda client, x: run(model, client, x).logits)
  return float(forward.lower(template, images).cost_analysis()["flops"])


def transfers(env, shapes, peer, *, learned):
  """Who learns from whom by transfer maps, and what each of a client's sources costs.

  A training pass counts three forward passes, itself and a gradient of twice its size; a source
  adds a forward pass of its model, and a map's three products.

  Args:
    env: Env.
    shapes: {layer: shape of its kernel [..., n, o]}, of the layers with maps.
    learned: whether maps are trained; those that are not cost nothing a batch.
    peer: i32[R*K, S], the sources, -1 for nobody.

  Returns:
    {'sources': over replicas and their clients, lists of clients; 'transfer': FLOPs of one batch
    for every client of the first replica, with its sources and without, and the snapshots that
    this replica's clients fetch in a round}.
  """
  sources = [[k % env.K for k in row if k >= 0] for row in peer.tolist()]
  by_cohort = [
    forward_flops(c.model, t, env.image, env.dtype)
    for c, t in zip(env.cohorts, env.templates, strict=True)
  ]
  forward = env.batch * np.array(by_cohort)[cohort_of(env)][: env.K]
  product = sum(4 * s[-2] * int(np.prod(s)) for s in shapes.values())  # 2 a multiply-add, 2n inputs
  maps = 3 * product if learned else 0
  added = [sum(forward[a] + maps for a in row) for row in sources[: env.K]]
  return {
    "sources": [sources[r * env.K : (r + 1) * env.K] for r in range(env.R)],
    "transfer": {
      "flops_per_batch": (3 * forward + added).tolist(),
      "flops_per_batch_without": (3 * forward).tolist(),
      "messages_per_round": sum(map(len, sources[: env.K])),
    },
  }
